#!/usr/bin/env bash
# How accurate the link (scripts/lab/link) is on this machine: two namespaces, a third one between them where it
# stands, and plain sockets of the kernel's at both ends (link/examples/measure.rs).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

usage() {
    cat <<'END'
usage: scripts/bench/link.sh [--rounds N] [--seconds N] [--json]

  unimpaired   one TCP connection at an MTU of 1500, offloads off; goal: 2 Gbit/s or more
  shaped       rate 100mbit delay 10ms each way: a UDP flood of 130 Mbit/s, goal: the rate within 1 %; and 500 pings
               on the idle link, goal: the median within 0.2 ms of 20 ms
  seed         20,000 numbered datagrams over loss 1%, twice with one seed and once with another: the same ones must
               come, and then others
Each row says whether the link's own report calls the run void. Medians of the rounds, with min and max. Exit code 1
when a goal is missed. Needs root. Half a minute a round.

  --rounds N   3
  --seconds N  of each measurement: 5
  --json       one object, with every single measurement
END
}

rounds=3 seconds=5 json=false
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=${2-}; shift ;;
    --seconds) seconds=${2-}; shift ;;
    --json) json=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ $rounds =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ && $seconds -ge 2 ]] || { usage >&2; exit 2; }
[ "$(id -u)" = 0 ] || die "namespaces need root: sudo $0"
for tool in ip ethtool jq; do have "$tool" || die "$tool is missing: scripts/setup.sh installs it"; done

cargo build --release --locked --quiet -p millrace-link --bin millrace-link --example measure
program=$(realpath "${CARGO_TARGET_DIR:-target}/release/millrace-link")
measure=$(realpath "${CARGO_TARGET_DIR:-target}/release/examples/measure")

a=bl-a b=bl-b middle=bl-l dir='' pid=''
finish() {
    local code=$? ns
    trap - EXIT INT TERM
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
    for ns in $a $b $middle; do
        if [ -e "/run/netns/$ns" ]; then ip netns del "$ns"; fi
    done
    rm -rf "$dir"
    exit "$code"
}
for ns in $a $b $middle; do [ ! -e "/run/netns/$ns" ] || die "the namespace $ns is there already"; done
trap finish EXIT
trap 'exit 130' INT TERM
dir=$(mktemp -d /tmp/millrace-link.XXXXXX)

for ns in $a $b $middle; do
    ip netns add $ns
    ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
done
number=0
for ns in $a $b; do
    number=$((number + 1))
    ip -n $middle link add e$number type veth peer name eth0 address 02:00:00:00:00:0$number netns $ns
    ip netns exec $ns ethtool -K eth0 tx off >/dev/null
    ip -n $ns addr add 10.81.0.$number/24 dev eth0
    ip -n $ns neigh replace 10.81.0.$((3 - number)) lladdr 02:00:00:00:00:0$((3 - number)) dev eth0 nud permanent
    ip -n $middle link set e$number up
    ip -n $ns link set eth0 up
done

# The round trip is to be the link's, not that of a process that waits for a CPU: where it is permitted, it does not.
prompt=(env)
if chrt -r 1 true 2>/dev/null; then prompt=(chrt -r 1); fi

# run NAME WORDS MEASURE ARGUMENT…: a measurement over a link of its own; a line of JSON into the results.
run() {
    local name=$1 words=$2 what=$3 n result before
    shift 3
    # Here, not when the shell in the background gets to it: the last one's "ready" must not be read.
    : >"$dir/link"
    # shellcheck disable=SC2086
    "$program" --json --quiet $middle/e1 $middle/e2 $words </dev/null >>"$dir/link" 2>&1 &
    pid=$!
    for ((n = 0; n < 100; n++)); do
        if grep -q ready "$dir/link"; then break; fi
        [ -e "/proc/$pid" ] || die "the link did not start: $(cat "$dir/link")"
        sleep 0.1
    done
    case $what in
    rtt) before=("${prompt[@]}") ;;
    # A sender that changes its CPU overtakes itself.
    which) before=(taskset -c 0) ;;
    *) before=(env) ;;
    esac
    result=$("${before[@]}" "$measure" "$what" "$@")
    kill -TERM $pid
    wait $pid || true
    pid=''
    tail -n 1 "$dir/link" | jq -c --arg name "$name" --argjson result "$result" \
        '{name: $name, result: $result, link: .}' >>"$dir/results"
}

shaped="rate 100mbit delay 10ms"
for ((round = 1; round <= rounds; round++)); do
    run tcp "" tcp $a $b 10.81.0.2 "$seconds"
    run flood "$shaped" flood $a $b 10.81.0.2 "$seconds" 130
    run rtt "$shaped" rtt $a 10.81.0.2 500
done
for seed in 42 42 43; do run "seed $seed" "loss 1% --seed $seed" which $a $b 10.81.0.2 20000; done

jq -s --arg machine "$(nproc) x $(lscpu | sed -n 's/^Model name: *//p'), Linux $(uname -r)" \
    --arg load "$(cut -d ' ' -f 1-3 /proc/loadavg)" '
    def spread: sort | {median: ((.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2), min: .[0], max: .[-1]};
    def of(n): map(select(.name == n));
    def late: of("flood") | map([.link.up.lateness_ns, .link.down.lateness_ns] | map(.p99) | max / 1000) | spread;
    {
        machine: $machine, load: $load,
        tcp_gbit: (of("tcp") | map(.result.bits_per_second / 1e9) | spread),
        flood_mbit: (of("flood") | map(.result.bits_per_second / 1e6) | spread),
        rtt_p50_ms: (of("rtt") | map(.result.p50_ns / 1e6) | spread),
        rtt_p99_ms: (of("rtt") | map(.result.p99_ns / 1e6) | spread),
        lateness_p99_us: late,
        cpu_share: (of("tcp") | map(.link.cpu_ns / .link.elapsed_ns) | spread),
        shaped_void: (map(select(.name == "flood" or .name == "rtt")) | map(.link.void_reasons[])),
        which: (map(select(.name | startswith("seed")) | {name, came: .result.came, hash: .result.hash})),
        all: .
    }
    | .goals = {
        "2 Gbit/s": (.tcp_gbit.median >= 2),
        "rate within 1 %": (.flood_mbit | .median > 99 and .median < 101),
        "RTT within 0.2 ms": (.rtt_p50_ms | .median > 19.8 and .median < 20.2),
        "not void": (.shaped_void == []),
        "the same seed loses the same frames": (.which | .[0] == .[1] and .[0].hash != .[2].hash)
    }' "$dir/results" >"$dir/report"

if $json; then
    cat "$dir/report"
else
    jq -r '
        def show(unit): "\(.median * 1000 | round / 1000) \(unit)  (\(.min * 1000 | round / 1000) to \(.max * 1000 | round / 1000))";
        "machine      \(.machine); load \(.load)",
        "unimpaired   \(.tcp_gbit | show("Gbit/s")), \(.cpu_share.median * 100 | round) % of a CPU",
        "100 Mbit/s   \(.flood_mbit | show("Mbit/s"))",
        "20 ms        p50 \(.rtt_p50_ms | show("ms")), p99 \(.rtt_p99_ms | show("ms"))",
        "lateness     p99 \(.lateness_p99_us | show("us")) in the flood",
        "loss 1%      \(.which | map("\(.name): \(.came) of 20000, \(.hash)") | join("; "))",
        (.shaped_void | if . == [] then "void         no" else "void         \(.[])" end),
        (.goals | to_entries[] | "\(if .value then "met " else "MISSED" end)   \(.key)")' "$dir/report"
fi
jq -e '[.goals[]] | all' "$dir/report" >/dev/null
