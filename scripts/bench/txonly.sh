#!/usr/bin/env bash
# Frames that `millrace pktgen` makes, beside those of testpmd, in one run on one core: benches/frames.rs says what is done
# with them. Rounds are interleaved; what counts is frames per second of the sending thread's own CPU time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/txonly.sh [--rounds N] [--seconds N] [--cpu N] [--kinds LIST] [--report FILE]

  --rounds N    of each row (5)
  --seconds N   of each row in a round (1)
  --cpu N       where the sending threads run (1)
  --kinds LIST  udp,udp-random,syn,ack,icmp,dns,frags,udp6 by default
  --report FILE the tables as Markdown as well

testpmd's mode txonly sends one frame of UDP over and over, as our row "udp" does; its mode flowgen sends to one address
after the other, as our other rows do with more fields. On net_null (with no-rx=1: nothing is received) both are beside
us. net_ring gives back what is sent: flowgen receives and frees it; ours is looked at and counted. "mem" is our own wire,
which copies.

Needs root, for hugepages: 2 MiB ones are reserved for the time of the run and given back; and testpmd:
apt-get install dpdk dpdk-dev.
END
}

rounds=5 seconds=1 cpu=1 kinds=udp,udp-random,syn,ack,icmp,dns,frags,udp6 report=''
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --cpu) cpu=$2; shift ;;
    --kinds) kinds=$2; shift ;;
    --report) report=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

. scripts/bench/pmd.sh
bench=${MILLRACE_BENCH:-$(built frames --features dpdk)}
reserve_pages 768

for ((round = 1; round <= rounds; round++)); do
    run_testpmd net_null0,no-rx=1 txonly "$seconds" txonly
    run_testpmd net_null0,no-rx=1 flowgen "$seconds" flowgen
    run_testpmd net_ring0 flowgen "$seconds" flowgen
    taskset -c "$cpu" "$bench" --seconds "$seconds" --kinds "$kinds" --plain >"$work/ours"
    sed -n 's/^# //p' "$work/ours" >"$work/facts"
    sed -n 's/^null /net_null0 /p; s/^ring /net_ring0 /p; s/^mem /mem /p' "$work/ours" |
        awk '{ print $1, $2, $3, $4, 0, $5 }' >>"$work/rows"
    echo "round $round of $rounds, load $(cut -d ' ' -f 1 /proc/loadavg)" >&2
done

# A row; what it is held against is the device's, and mode's, of testpmd.
row() { # DEVICE NAME BESIDE PEER
    local base median least most cycles shown=$2
    # shellcheck disable=SC2016 # awk's.
    read -r base _ <<<"$(over_rounds "$3" "$4" '$3 * 1000 / $4')"
    # shellcheck disable=SC2016
    read -r median least most <<<"$(over_rounds "$1" "$2" '$3 * 1000 / $4')"
    # shellcheck disable=SC2016
    read -r cycles _ <<<"$(over_rounds "$1" "$2" '$6')"
    if [ "$2" = "$4" ]; then shown="testpmd $2" cycles=''; fi
    awk -v d="${1%0}" -v n="$shown" -v m="$median" -v a="$least" -v b="$most" -v base="$base" -v p="$4" -v c="$cycles" 'BEGIN {
        printf "| %s | %s | %.1f | %.1f | %.1f | %.3f of %s | %s |\n", d, n, m, a, b, m / base, p, c == "" ? "" : sprintf("%.0f", c) }'
}

tables() {
    local device name peer beside
    echo '| Wire | Frames | Mpps median | min | max | of testpmd | Cycles a frame |'
    echo '|---|---|---|---|---|---|---|'
    row net_null0 txonly net_null0 txonly
    row net_null0 flowgen net_null0 flowgen
    row net_ring0 flowgen net_ring0 flowgen
    for device in net_null0 net_ring0 mem; do
        for name in ${kinds//,/ }; do
            # What is sent into our own wire is held against what is sent into none.
            beside=$device peer=flowgen
            if [ $device = mem ]; then beside=net_null0; fi
            if [ "$name" = udp ] && [ $device != net_ring0 ]; then peer=txonly; fi
            row $device "$name" $beside $peer
        done
    done
}

tables
echo
facts "$(cat "$work/facts")"
if [ -n "$report" ]; then
    {
        printf '## Frames of pktgen beside testpmd\n\n'
        facts "$(cat "$work/facts")"
        echo "- \`scripts/bench/txonly.sh --rounds $rounds --seconds $seconds --cpu $cpu\`"
        echo
        tables
    } >"$report"
fi
