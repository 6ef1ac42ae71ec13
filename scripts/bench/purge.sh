#!/usr/bin/env bash
# How long a purge takes in a node that is busy, and what its clients notice.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/rig.sh

usage() {
    cat <<'END'
usage: scripts/bench/purge.sh [--objects N] [--json]

Fills the cache of a running node with N objects of 1 KiB with one tag (20000; at most 130000 fit), then purges one URL,
the tag, and everything, while wrk asks for another object over 32 connections. Prints what `millrace purge --json` says
it took, and wrk's p99 in a window of 2 s without a purge and one of 2 s with the purge in its middle.
END
}

objects=20000 json=false
while [ $# -gt 0 ]; do
    case "$1" in
    --objects) objects=${2-}; shift ;;
    --json) json=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
if ! [[ $objects =~ ^[1-9][0-9]{0,5}$ ]] || [ "$objects" -gt 130000 ]; then usage >&2; exit 2; fi
rig_tools sed

window() { # wrk's p99 in microseconds, over 2 s, of an object that carries no tag
    ip netns exec $client taskset -c $client_cpu wrk -t1 -c32 -d2s --latency http://10.80.0.1/cached/hot |
        awk '$1 == "99%" { n = $2 + 0; if ($2 ~ /[0-9]s$/) n *= 1e6; if ($2 ~ /ms$/) n *= 1e3; printf "%d\n", n }'
}

requests() { of_node stats all --json | jq '.http.requests // .counters."http.requests"'; }

fill() { # asks for each object once, 64 at a time; a little more, since a run's last answers are thrown away
    local first=0 start until=$((SECONDS + 60))
    cat >"$dir/fill.lua" <<'END'
local n, most = tonumber(os.getenv("FIRST")), tonumber(os.getenv("OBJECTS"))
request = function()
    n = n % most + 1
    return wrk.format("GET", "/tagged/" .. n)
end
END
    start=$(requests)
    while [ "$first" -lt "$objects" ] && [ $SECONDS -lt $until ]; do
        FIRST=$first OBJECTS=$objects ip netns exec $client taskset -c $client_cpu wrk -t1 -c64 -d 2s \
            -s "$dir/fill.lua" http://10.80.0.1 >/dev/null
        first=$(($(requests) - start))
    done
}

purge() { # NAME ARGUMENT…: two windows, the second with the purge in its middle
    local name=$1 quiet during answer
    shift
    quiet=$(window)
    window >"$dir/during" &
    local wrk=$!
    sleep 1
    answer=$(of_node purge --json "$@") || true
    wait $wrk
    during=$(cat "$dir/during")
    jq -nc --arg what "$name" --argjson answer "$answer" --argjson quiet "$quiet" --argjson during "$during" \
        '{what: $what, answer: $answer, p99_quiet_us: $quiet, p99_during_us: $during,
          ratio: ($during / $quiet * 100 | round / 100)}' >>"$dir/rows"
}

before=$(machine)
rig_up
start_millrace millrace.conf 10.80.0.1
fill
purge "one URL" http://10.80.0.1/tagged/1
purge "tag" --tag bench
fill
purge "everything" --all
purge "everything, once more" --all
if $json; then
    jq -s --argjson objects "$objects" '{objects: $objects, purges: .}' "$dir/rows"
    exit
fi
echo "$before"
echo
echo "| Purge | Objects | Obeyed in µs | p99 µs without | p99 µs during | ratio |"
echo "|---|---|---|---|---|---|"
jq -r '"| \(.what) | \(.answer.objects) | \(.answer.obeyed_us) | \(.p99_quiet_us) | \(.p99_during_us) | \(.ratio) |"' "$dir/rows"
