#!/usr/bin/env bash
# Frames that `millrace pktgen` makes, beside those of testpmd, in one run on one core: benches/frames.rs says what is done
# with them. Rounds are interleaved; what counts is frames per second of the sending thread's own CPU time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/txonly.sh [--rounds N] [--seconds N] [--cpu N] [--kinds LIST]

  --rounds N    of each row (5)
  --seconds N   of each row in a round (1)
  --cpu N       where the sending threads run (1)
  --kinds LIST  udp,udp-random,syn,ack,icmp,dns,frags,udp6 by default

testpmd's mode txonly, which sends one frame of UDP over and over, is beside us on net_null (with no-rx=1: nothing is
received). On net_ring, which gives back what is sent, it is flowgen: frames to changing addresses, and what comes is
received and freed; ours is looked at and counted. Our row "udp" is one frame over and over, too; the others vary fields
and checksums. "mem" is our own wire, which copies.

Needs root, for hugepages: 2 MiB ones are reserved for the time of the run and given back; and testpmd:
apt-get install dpdk dpdk-dev.
END
}

rounds=5 seconds=1 cpu=1 kinds=udp,udp-random,syn,ack,icmp,dns,frags,udp6
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --cpu) cpu=$2; shift ;;
    --kinds) kinds=$2; shift ;;
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
    run_testpmd net_ring0 flowgen "$seconds" flowgen
    taskset -c "$cpu" "$bench" --seconds "$seconds" --kinds "$kinds" --plain >"$work/ours"
    sed -n 's/^# //p' "$work/ours" >"$work/facts"
    sed -n 's/^null /net_null0 /p; s/^ring /net_ring0 /p; s/^mem /mem /p' "$work/ours" |
        awk '{ print $1, $2, $3, $4, 0, $5 }' >>"$work/rows"
    echo "round $round of $rounds, load $(cut -d ' ' -f 1 /proc/loadavg)" >&2
done

echo '| Wire | Frames | Mpps median | min | max | of testpmd | Cycles a frame |'
echo '|---|---|---|---|---|---|---|'
for device in net_null0 net_ring0 mem; do
    peer=txonly
    if [ $device = net_ring0 ]; then peer=flowgen; fi
    # What is sent into our own wire is held against what is sent into none.
    beside=$device
    if [ $device = mem ]; then beside=net_null0; fi
    # shellcheck disable=SC2016 # awk's.
    read -r base _ <<<"$(over_rounds $beside $peer '$3 * 1000 / $4')"
    for name in $peer ${kinds//,/ }; do
        if [ $device = mem ] && [ "$name" = $peer ]; then continue; fi
        # shellcheck disable=SC2016
        read -r median least most <<<"$(over_rounds $device "$name" '$3 * 1000 / $4')"
        # shellcheck disable=SC2016
        read -r cycles _ <<<"$(over_rounds $device "$name" '$6')"
        shown=$name
        if [ "$name" = $peer ]; then shown="testpmd $name" cycles=''; fi
        awk -v d=${device%0} -v n="$shown" -v m="$median" -v a="$least" -v b="$most" -v base="$base" -v c="$cycles" 'BEGIN {
            printf "| %s | %s | %.1f | %.1f | %.1f | %.3f | %s |\n", d, n, m, a, b, m / base, c == "" ? "" : sprintf("%.0f", c) }'
    done
done
echo
facts "$(cat "$work/facts")"
