#!/usr/bin/env bash
# Our loops over virtual devices of DPDK's beside testpmd's, in one run on one core: benches/dpdk.rs says what they are.
# Rounds are interleaved; what counts is packets per second of the forwarding thread's own CPU time, so that what other
# threads of this machine take is not in it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/testpmd.sh [--rounds N] [--seconds N] [--cpu N] [--report FILE]

  --rounds N     of each loop and device (5)
  --seconds N    of each loop in a round (2)
  --cpu N        where the forwarding threads run (1)
  --report FILE  the tables as Markdown, with the machine and the versions; docs/bench/DATE-dpdk.md is one

Needs root, for hugepages: 2 MiB ones are reserved for the time of the run and given back; and testpmd:
apt-get install dpdk dpdk-dev.
END
}

rounds=5 seconds=2 cpu=1 report=''
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --cpu) cpu=$2; shift ;;
    --report) report=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

have dpdk-testpmd || die "testpmd is missing: apt-get install dpdk dpdk-dev"
[ "$(id -u)" = 0 ] || die "hugepages need root"
other=0
if [ "$cpu" = 0 ]; then other=1; fi
bench=${MILLRACE_BENCH:-$(built dpdk --features dpdk)}

work=$(mktemp -d)
nr=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages=256
testpmd='' reserved=false
finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$testpmd" ]; then kill "$testpmd" 2>/dev/null || true; fi
    # Others may have reserved some meanwhile: theirs stay.
    if $reserved; then
        local left=$(($(cat $nr) - pages))
        echo $((left > 0 ? left : 0)) >$nr
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM
pages_before=$(cat $nr)
echo $((pages_before + pages)) >$nr
[ "$(cat $nr)" -ge $((pages_before + pages)) ] || die "the kernel has no 512 MiB for hugepages now"
reserved=true

# cpu_ns PID NAME: what the thread of that name has run, in nanoseconds.
cpu_ns() {
    local task
    for task in "/proc/$1/task/"*; do
        case "$(cat "$task/comm")" in "$2"*) cut -d ' ' -f 1 "$task/schedstat"; return ;; esac
    done
    die "testpmd has no thread $2"
}

until_said() { # TEXT: in testpmd's output, more often than before
    local n
    for ((n = 0; n < 100; n++)); do
        if [ "$(grep -c "$1" "$work/testpmd.out")" -gt "$2" ]; then return; fi
        sleep 0.1
    done
    tail "$work/testpmd.out" >&2
    die "testpmd does not say '$1'"
}

# Adds a row as benches/dpdk.rs prints them: loop, packets, nanoseconds, odd ones. While it is not forwarding, its thread sleeps.
run_testpmd() { # DEVICE
    local ns0 ns1 packets
    mkfifo "$work/in"
    stdbuf -oL dpdk-testpmd --lcores "0@$other,1@$cpu" --in-memory -m 384 --no-pci --no-telemetry --no-shconf --vdev "$1" \
        -- --interactive --forward-mode=io --burst=32 --nb-cores=1 --port-topology=loop --rxd=1024 --txd=1024 \
        <"$work/in" >"$work/testpmd.out" 2>&1 &
    testpmd=$!
    exec 9>"$work/in"
    rm "$work/in"
    until_said "testpmd>" 0
    # A warm-up, and the round.
    for length in 0.2 "$seconds"; do
        ns0=$(cpu_ns "$testpmd" rte-worker)
        echo 'start tx_first' >&9
        sleep "$length"
        local done_before
        done_before=$(grep -c 'Accumulated forward statistics' "$work/testpmd.out" || true)
        echo stop >&9
        until_said 'Accumulated forward statistics' "$done_before"
        sleep 0.2
        ns1=$(cpu_ns "$testpmd" rte-worker)
    done
    echo quit >&9
    exec 9>&-
    wait "$testpmd" || true
    testpmd=''
    packets=$(sed -n 's/.*RX-packets: \([0-9]*\).*/\1/p' "$work/testpmd.out" | tail -n 1)
    echo "$1 testpmd $packets $((ns1 - ns0)) 0" >>"$work/rows"
}

for ((round = 1; round <= rounds; round++)); do
    for device in net_null0 net_ring0; do
        run_testpmd $device
        taskset -c "$cpu" "$bench" --device "${device%0}" --seconds "$seconds" >"$work/ours"
        grep '^#' "$work/ours" >"$work/facts"
        grep -v '^#' "$work/ours" | sed "s/^/$device /" >>"$work/rows"
    done
    echo "round $round of $rounds, load $(cut -d ' ' -f 1 /proc/loadavg)" >&2
done

mhz=$(sed -n 's/^# \([0-9]*\) MHz.*/\1/p' "$work/facts")
odd=$(awk '{ n += $5 } END { print n + 0 }' "$work/rows")
[ "$odd" = 0 ] || die "$odd packets were not parsed, or had no connection: no measurement"

# Median, least and most of an awk expression over the rounds of a device's loop.
over_rounds() { # DEVICE LOOP EXPRESSION
    awk -v d="$1" -v l="$2" "\$1 == d && \$2 == l { print ($3) }" "$work/rows" | sort -n |
        awk '{ v[NR] = $1 } END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; print m, v[1], v[NR] }'
}

tables() {
    local device loop median least most base before cycles
    for device in net_null0 net_ring0; do
        printf '\n### %s\n\n' "${device%0}"
        echo '| Loop | Mpps median | min | max | of testpmd | Cycles a packet | added |'
        echo '|---|---|---|---|---|---|---|'
        base='' before=''
        for loop in testpmd bare shim port parse demux; do
            # Millions of packets per second of the thread's CPU time.
            # shellcheck disable=SC2016 # awk's.
            read -r median least most <<<"$(over_rounds $device $loop '$3 * 1000 / $4')"
            # Of ours, cycles are those of the median stretch; testpmd says nothing of its own.
            # shellcheck disable=SC2016
            read -r cycles _ <<<"$(over_rounds $device $loop "NF > 5 ? \$6 : $mhz * \$4 / 1000 / \$3")"
            if [ -z "$base" ]; then base=$median; fi
            awk -v loop=$loop -v m="$median" -v a="$least" -v b="$most" -v base="$base" -v c="$cycles" -v p="$before" 'BEGIN {
                printf "| %s | %.1f | %.1f | %.1f | %.3f | %.1f | %s |\n", loop, m, a, b, m / base, c, p == "" ? "" : sprintf("%.1f", c - p) }'
            # What a stage adds is beside the loop that it is added to: the port beside the bare loop.
            case $loop in testpmd | shim) ;; *) before=$cycles ;; esac
        done
    done
}

facts() {
    echo "- $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, TSC $mhz MHz, Linux $(uname -r);" \
        "$(sed 's/^# [0-9]* MHz, //' "$work/facts") of 2 MiB"
    echo "- $(dpkg-query -W -f '${Package} ${Version}' dpdk 2>/dev/null || echo 'DPDK, not by dpkg'); $(rustc --version);" \
        "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    echo "- load at the end: $(cut -d ' ' -f 1-3 /proc/loadavg); CPU $cpu; $rounds rounds of $seconds s, interleaved"
}

tables
echo
facts
if [ -n "$report" ]; then
    {
        printf '## Against testpmd\n\n'
        facts
        echo "- \`scripts/bench/testpmd.sh --rounds $rounds --seconds $seconds --cpu $cpu\`"
        tables
    } >"$report"
fi
