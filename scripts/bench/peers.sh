#!/usr/bin/env bash
# Millrace, nginx, HAProxy and Varnish side by side: GETs of 1 KiB from the cache and past it, over one bridge. For a
# quick look; scripts/bench/run does more of it, and writes reports.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/servers.sh

usage() {
    cat <<'END'
usage: scripts/bench/peers.sh [--rounds N] [--seconds N] [--connections N] [--json]

Each server has one core (CPU 1) and one worker; wrk and the origin (nginx) have CPU 0. The rounds are interleaved, so
that a busy machine is busy for all. Configs: scripts/bench/peers. Needs root, nginx, haproxy, varnish, wrk, jq, and a
release build (or MILLRACE=PROGRAM). 3 minutes by default.

  --rounds N       3
  --seconds N      of each measurement: 5
  --connections N  32
  --json           one object, with every single measurement

Medians of the rounds. CPU seconds are user and system time of the server's processes. Millrace polls: its thread's
clock runs also while it finds nothing, so that there are two rows for it: by cycles of passes that found something to do
(loop.busy_cycles, which include the system calls on the TAP), and by the clock of its process.
"origin" is how many requests the origin saw for each of the client's: 0 when all came from the cache.
Cycles run on while other programs have the core: on a busy machine the figure by busy cycles is too low.
END
}

rounds=3 seconds=5 connections=32 json=false
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
rig_tools haproxy varnishd

# wrk's latency in microseconds
us() { awk -v v="$1" 'BEGIN { n = v + 0; if (v ~ /[0-9]s$/) n *= 1e6; if (v ~ /ms$/) n *= 1e3; printf "%d", n }'; }

measure() { # SERVER KIND ROUND
    local server=$1 kind=$2 out t0 t1 b0 b1 a0 a1
    out=$dir/wrk.out
    ip netns exec $client taskset -c $client_cpu wrk -t1 -c "$connections" -d 1s "${url[$server]}/$kind/1k" >/dev/null
    a0=$(asked) t0=$(ticks "$server") b0=$(busy "$server")
    ip netns exec $client taskset -c $client_cpu wrk -t1 -c "$connections" -d "${seconds}s" --latency \
        "${url[$server]}/$kind/1k" >"$out"
    b1=$(busy "$server") t1=$(ticks "$server") a1=$(asked)
    local total p50 p99 bad took
    total=$(awk '/requests in/ { print $1 }' "$out")
    took=$(awk '/Requests\/sec/ { print $2 }' "$out")
    p50=$(us "$(awk '$1 == "50%" { print $2 }' "$out")") p99=$(us "$(awk '$1 == "99%" { print $2 }' "$out")")
    bad=$(awk '/Non-2xx/ { n += $NF } /Socket errors/ { gsub(",", ""); n += $4 + $6 + $8 + $10 } END { print n + 0 }' "$out")
    jq -nc --arg server "$server" --arg kind "$kind" --argjson round "$3" --argjson requests "$total" \
        --argjson rps "$took" --argjson cpu "$((t1 - t0))" --argjson tick "$(getconf CLK_TCK)" \
        --argjson busy "$((b1 - b0))" --argjson hz "$hz" --argjson p50 "$p50" --argjson p99 "$p99" \
        --argjson bad "$bad" --argjson origin "$((a1 - a0 - 1))" --arg load "$(cut -d ' ' -f 1 /proc/loadavg)" \
        '{server: $server, kind: $kind, round: $round, requests: $requests, rps: $rps,
          cpu_seconds: ($cpu / $tick), busy_seconds: (if $busy > 0 then $busy / $hz else null end),
          p50_us: $p50, p99_us: $p99, errors: $bad, origin_requests: $origin, load: ($load | tonumber)}' >>"$dir/rows"
}

hz=$(tsc_hz)
before=$(machine)
rig_up
start_peers nginx haproxy varnish
for ((round = 1; round <= rounds; round++)); do
    for server in millrace nginx haproxy varnish; do
        # The edge polls the servers' core: it is there only while it is measured.
        if [ $server = millrace ]; then start_millrace millrace.conf 10.80.0.1; pid[millrace]=$tap_pid url[millrace]=http://10.80.0.1; fi
        for kind in cached pass; do measure $server $kind "$round"; done
        if [ $server = millrace ]; then stop_millrace; fi
    done
    echo "round $round of $rounds is done" >&2
done

summary='
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
group_by([.kind, .server]) | map({
    kind: .[0].kind, server: .[0].server,
    rps: (map(.rps) | median | round), rps_min: (map(.rps) | min | round), rps_max: (map(.rps) | max | round),
    per_cpu_second: (map(.requests / ([.cpu_seconds, 0.01] | max)) | median | round),
    per_busy_second: (if .[0].busy_seconds then map(.requests / .busy_seconds) | median | round else null end),
    p50_us: (map(.p50_us) | median), p99_us: (map(.p99_us) | median),
    origin_share: ((map(.origin_requests) | add) / (map(.requests) | add) * 1000 | round / 1000),
    errors: (map(.errors) | add)})'
if $json; then
    jq -s --arg machine "$before" "{machine: (\$machine | split(\"\n\")), rounds: $rounds, seconds: $seconds,
        connections: $connections, summary: ($summary), runs: .}" "$dir/rows"
    exit
fi
echo "$before"
echo "versions  $(nginx -v 2>&1 | sed 's/.*: //'), $(haproxy -v | sed -n '1s/ version//p' | cut -d ' ' -f 1-2), $(varnishd -V 2>&1 | sed -n '1s/.*(\(.*\) rev.*/\1/p'), $("$millrace" version | head -n 1)"
echo "run       wrk -t1 -c$connections, $rounds rounds of $seconds s each, interleaved; medians"
echo
echo "| GETs of 1 KiB | Requests/s | min | max | Per CPU second | p50 µs | p99 µs | origin | errors |"
echo "|---|---|---|---|---|---|---|---|---|"
jq -rs "$summary"' | .[] | . as $r
    | (if $r.per_busy_second then [["busy cycles", $r.per_busy_second], ["thread clock", $r.per_cpu_second]]
       else [["", $r.per_cpu_second]] end)[]
    | "| \($r.kind), \($r.server)\(if .[0] == "" then "" else " (\(.[0]))" end) | \($r.rps) | \($r.rps_min) | \($r.rps_max) | \(.[1]) | \($r.p50_us) | \($r.p99_us) | \($r.origin_share) | \($r.errors) |"' "$dir/rows"
