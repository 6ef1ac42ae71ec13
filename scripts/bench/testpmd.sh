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

. scripts/bench/pmd.sh
bench=${MILLRACE_BENCH:-$(built dpdk --features dpdk)}
reserve_pages 256

for ((round = 1; round <= rounds; round++)); do
    for device in net_null0 net_ring0; do
        run_testpmd $device io "$seconds" testpmd
        taskset -c "$cpu" "$bench" --device "${device%0}" --seconds "$seconds" >"$work/ours"
        grep '^#' "$work/ours" >"$work/facts"
        grep -v '^#' "$work/ours" | sed "s/^/$device /" >>"$work/rows"
    done
    echo "round $round of $rounds, load $(cut -d ' ' -f 1 /proc/loadavg)" >&2
done

mhz=$(sed -n 's/^# \([0-9]*\) MHz.*/\1/p' "$work/facts")
about="TSC $mhz MHz, $(sed 's/^# [0-9]* MHz, //' "$work/facts")"
odd=$(awk '{ n += $5 } END { print n + 0 }' "$work/rows")
[ "$odd" = 0 ] || die "$odd packets were not parsed, or had no connection: no measurement"

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

tables
echo
facts "$about"
if [ -n "$report" ]; then
    {
        printf '## Against testpmd\n\n'
        facts "$about"
        echo "- \`scripts/bench/testpmd.sh --rounds $rounds --seconds $seconds --cpu $cpu\`"
        tables
    } >"$report"
fi
