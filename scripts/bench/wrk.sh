#!/usr/bin/env bash
# `millrace pktgen http` and wrk side by side on the same nginx: what the server gives them, what they cost, and what each
# says of a server that stalls.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/rig.sh

usage() {
    cat <<'END'
usage: scripts/bench/wrk.sh [--rounds N] [--seconds N] [--connections N] [--json]

nginx (one worker, GETs of 1 KiB) has CPU 1, the load CPU 0: the load's kernel work for veth or TAP, and with it the
kernel's receive path up to nginx's socket, are on the load's side in both cases. The rounds are interleaved. Needs root,
nginx, wrk, jq, and a release build (or MILLRACE=PROGRAM). A minute and a half by default.

  --rounds N       3
  --seconds N      of each measurement: 5
  --connections N  64
  --json           one object, with every single measurement

CPU of wrk is its process's user and system time. pktgen polls: its thread's clock runs also while it finds nothing, so there
are two figures for it: busy cycles (of passes that found something to do, the system calls on the TAP included; they run on
while other programs have the core), and the thread's clock.
The last table is of an nginx that is stopped (SIGSTOP) for 100 ms once a second: closed loops ask it less while it stands
still, an open loop does not.
END
}

rounds=3 seconds=5 connections=64 json=false
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=${2-}; shift ;;
    --seconds) seconds=${2-}; shift ;;
    --connections) connections=${2-}; shift ;;
    --json) json=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
for n in "$rounds" "$seconds" "$connections"; do [[ $n =~ ^[1-9][0-9]{0,3}$ ]] || { usage >&2; exit 2; }; done
rig_tools
# The rig's origin is the server here, and its clients' CPU that of the load.
client_cpu=1 load_cpu=0
url=http://10.80.0.3:8080/cached/1k

quantiles_of_wrk() {
    cat >"$dir/quantiles.lua" <<'END'
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("Q %d %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), latency:percentile(99.9), latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
END
}

row() { # NAME KIND ROUND REQUESTS SECONDS P50 P99 P99.9 MAX ERRORS CPU_SECONDS BUSY_SECONDS|null
    jq -nc --arg name "$1" --arg kind "$2" --argjson round "$3" --argjson requests "$4" --argjson seconds "$5" \
        --argjson p50 "$6" --argjson p99 "$7" --argjson p999 "$8" --argjson max "$9" --argjson errors "${10}" \
        --argjson cpu "${11}" --argjson busy "${12}" --arg load "$(cut -d ' ' -f 1 /proc/loadavg)" \
        '{name: $name, kind: $kind, round: $round, requests: $requests, rps: ($requests / $seconds), p50_us: $p50,
          p99_us: $p99, p999_us: $p999, max_us: $max, errors: $errors, cpu_seconds: $cpu, busy_seconds: $busy,
          load: $load}' >>"$dir/rows"
}

run_wrk() { # KIND ROUND
    local TIMEFORMAT='%U %S' user sys
    { time ip netns exec $client taskset -c $load_cpu wrk -t1 -c "$connections" -d "${seconds}s" -s "$dir/quantiles.lua" \
        "$url" >"$dir/wrk.out" 2>"$dir/wrk.err"; } 2>"$dir/wrk.time"
    read -r user sys <"$dir/wrk.time"
    local q
    q=$(sed -n 's/^Q //p' "$dir/wrk.out")
    # shellcheck disable=SC2086
    set -- "$1" "$2" $q
    row wrk "$1" "$2" "$3" "$(jq -n "$4 / 1e6")" "$5" "$6" "$7" "$8" "$9" "$(jq -n "$user + $sys")" null
}

run_pktgen() { # NAME KIND ROUND OPTION…
    local name=$1 kind=$2 round=$3
    shift 3
    ip netns exec $net taskset -c $load_cpu "$millrace" pktgen http "$url" --port tap:mr0 --address 10.80.0.1/24 \
        -c "$connections" -d "${seconds}s" --json "$@" >"$dir/pktgen.out"
    local a
    mapfile -t a < <(jq '.responses, .seconds, .latency_us.p50, .latency_us.p99, .latency_us."p99.9", .latency_us.max,
        .errors, .cpu.thread_seconds, .cpu.busy_seconds' "$dir/pktgen.out")
    row "$name" "$kind" "$round" "${a[@]}"
}

# Stops nginx's worker for 100 ms once a second, until it is ended.
stalling() { # PID
    trap 'kill -CONT "$1"; exit' TERM
    while true; do
        kill -STOP "$1"
        sleep 0.1
        kill -CONT "$1"
        sleep 0.9
    done
}

before=$(machine)
rig_up
quantiles_of_wrk
for ((round = 1; round <= rounds; round++)); do
    run_wrk plain "$round"
    run_pktgen pktgen plain "$round"
    echo "round $round of $rounds is done" >&2
done
# Half of what the server can do.
rate=$(jq -s 'map(select(.name == "pktgen") | .rps) | sort | .[length / 2 | floor] / 2 | floor' "$dir/rows")
master=$(cat "$dir/origin.pid")
worker=$(pgrep -P "$master")
stalling "$worker" &
stalls=$!
pids+=("$stalls")
for ((round = 1; round <= rounds; round++)); do
    run_wrk stalled "$round"
    run_pktgen "pktgen, closed" stalled "$round"
    run_pktgen "pktgen, open at $rate/s" stalled "$round" --rate "$rate"
done
end_pid "$stalls"

summary='
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
group_by([.kind, .name]) | map({
    kind: .[0].kind, name: .[0].name,
    rps: (map(.rps) | median | round), rps_min: (map(.rps) | min | round), rps_max: (map(.rps) | max | round),
    cpu_us: (map(.cpu_seconds * 1e6 / .requests) | median * 100 | round / 100),
    busy_us: (if .[0].busy_seconds then map(.busy_seconds * 1e6 / .requests) | median * 100 | round / 100 else null end),
    p50_us: (map(.p50_us) | median | round), p99_us: (map(.p99_us) | median | round),
    p999_us: (map(.p999_us) | median | round), max_us: (map(.max_us) | median | round), errors: (map(.errors) | add)})'
if $json; then
    jq -s --arg machine "$before" "{machine: (\$machine | split(\"\n\")), rounds: $rounds, seconds: $seconds,
        connections: $connections, rate: $rate, summary: ($summary), runs: .}" "$dir/rows"
    exit
fi
echo "$before"
echo "versions  $(nginx -v 2>&1 | sed 's/.*: //'), $(wrk -v 2>&1 | sed -n '1s/ Copyright.*//p'), $("$millrace" version | head -n 1)"
echo "run       $connections connections, $rounds rounds of $seconds s each, interleaved; medians"
echo
echo "| GETs of 1 KiB from nginx | Requests/s | min | max | CPU µs a request | p50 µs | p99 µs | p99.9 µs | max µs | errors |"
echo "|---|---|---|---|---|---|---|---|---|---|"
jq -rs "$summary"' | sort_by(.kind) | .[] | . as $r
    | (if .busy_us then "\(.busy_us) busy, \(.cpu_us) thread" else "\(.cpu_us)" end) as $cpu
    | "| \(.name)\(if .kind == "stalled" then ", 100 ms stalls" else "" end) | \(.rps) | \(.rps_min) | \(.rps_max) | \($cpu) | \(.p50_us) | \(.p99_us) | \(.p999_us) | \(.max_us) | \(.errors) |"' "$dir/rows"
jq -rs "$summary"' | map(select(.kind == "plain")) | (map({(.name): .}) | add)
    | "\npktgen to wrk: \(.pktgen.rps / .wrk.rps * 1000 | round / 1000) of the requests, \(.pktgen.busy_us / .wrk.cpu_us * 1000 | round / 1000) of the CPU a request by busy cycles, \(.pktgen.cpu_us / .wrk.cpu_us * 1000 | round / 1000) by the thread'"'"'s clock"' "$dir/rows"
