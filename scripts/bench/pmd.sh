# shellcheck shell=bash
# Sourced by the scripts beside it, after lib.sh: testpmd on a virtual device, and what of it is shared by all. They have
# set `cpu`, where forwarding threads run, `rounds` and `seconds`; rows of measurements are in $work/rows.
# shellcheck disable=SC2154

have dpdk-testpmd || die "testpmd is missing: apt-get install dpdk dpdk-dev"
[ "$(id -u)" = 0 ] || die "hugepages need root"
other=0
if [ "$cpu" = 0 ]; then other=1; fi

work=$(mktemp -d)
nr=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages=0 testpmd=''
finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$testpmd" ]; then kill "$testpmd" 2>/dev/null || true; fi
    # Others may have reserved some meanwhile: theirs stay.
    if [ "$pages" -gt 0 ]; then
        local left=$(($(cat $nr) - pages))
        echo $((left > 0 ? left : 0)) >$nr
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM

reserve_pages() { # N: hugepages of 2 MiB, for the time of the run
    local before
    before=$(cat $nr)
    echo $((before + $1)) >$nr
    pages=$(($(cat $nr) - before))
    [ "$pages" -ge "$1" ] || die "the kernel has no $(($1 * 2)) MiB for hugepages now"
}

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

# Adds a row as the benches print them: device, name, packets, nanoseconds, odd ones. While it is not forwarding, its thread
# sleeps. In the mode io it sends on what it is given first, and received packets count; else those sent.
run_testpmd() { # DEVICE MODE SECONDS NAME
    local ns0 ns1 packets start='start' what=TX
    if [ "$2" = io ]; then start='start tx_first' what=RX; fi
    mkfifo "$work/in"
    stdbuf -oL dpdk-testpmd --lcores "0@$other,1@$cpu" --in-memory -m 384 --no-pci --no-telemetry --no-shconf --vdev "$1" \
        -- --interactive --forward-mode="$2" --burst=32 --nb-cores=1 --port-topology=loop --rxd=1024 --txd=1024 \
        <"$work/in" >"$work/testpmd.out" 2>&1 &
    testpmd=$!
    exec 9>"$work/in"
    rm "$work/in"
    until_said "testpmd>" 0
    # A warm-up, and the round.
    for length in 0.2 "$3"; do
        ns0=$(cpu_ns "$testpmd" rte-worker)
        echo "$start" >&9
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
    packets=$(sed -n "s/.*$what-packets: \([0-9]*\).*/\1/p" "$work/testpmd.out" | tail -n 1)
    echo "${1%%,*} $4 $packets $((ns1 - ns0)) 0" >>"$work/rows"
}

# Median, least and most of an awk expression over the rounds of a device's row.
over_rounds() { # DEVICE NAME EXPRESSION
    awk -v d="$1" -v l="$2" "\$1 == d && \$2 == l { print ($3) }" "$work/rows" | sort -n |
        awk '{ v[NR] = $1 } END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; print m, v[1], v[NR] }'
}

facts() { # TSC and pages, in words
    echo "- $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, Linux $(uname -r); $1"
    echo "- $(dpkg-query -W -f '${Package} ${Version}' dpdk 2>/dev/null || echo 'DPDK, not by dpkg'); $(rustc --version);" \
        "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    echo "- load at the end: $(cut -d ' ' -f 1-3 /proc/loadavg); CPU $cpu; $rounds rounds of $seconds s, interleaved"
}
