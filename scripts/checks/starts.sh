#!/usr/bin/env bash
# Starts and stops of DPDK's devices, 1,000 in one process, and of whole nodes, some of them killed: no file, hugepage or mbuf
# is left behind. The devices that need no privilege; as root, in a namespace of its own, also net_tap and net_af_packet; in
# hugepages as well, where enough are free.
#
# usage: scripts/checks/starts.sh [ROUNDS]     1000 by default; a twentieth as many whole nodes
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

rounds=${1:-1000}
[ "$rounds" -gt 0 ] 2>/dev/null || die "usage: scripts/checks/starts.sh [ROUNDS]"
nodes=$(((rounds + 19) / 20))
namespace=mr-starts-$$
work=$(mktemp -d)
node=

end() {
    if [ -n "$node" ]; then kill -KILL "$node" 2>/dev/null || true; fi
    ip netns del "$namespace" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

programs=$(cargo test --locked -p dataplane --features dpdk --test dpdk_starts --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*dpdk_starts[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$programs" ] || die "the test does not build: cargo test -p dataplane --features dpdk --test dpdk_starts --no-run"
cargo build --locked --bin millrace
target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
millrace=$target/debug/millrace

export MILLRACE_DPDK_ROUNDS=$rounds
run=()
if [ "$(id -u)" = 0 ] && ip netns add "$namespace" 2>/dev/null; then
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link add mrs0 type veth peer name mrs1
    ip -n "$namespace" link set mrs0 up
    ip -n "$namespace" link set mrs1 up
    export MILLRACE_DPDK_DEVICES="net_tap5,iface=mrt5 net_af_packet5,iface=mrs0"
    run=(ip netns exec "$namespace")
else
    echo "not root: without net_tap and net_af_packet"
fi

devices() {
    "${run[@]}" "$programs" --nocapture 2>&1 | { grep --line-buffered -E "starts and stops|panicked|left|right|cannot" || true; }
}

free_kib() {
    awk '/^HugePages_Free:/ { n = $2 } /^Hugepagesize:/ { k = $2 } END { print n * k }' /proc/meminfo
}

echo "in normal pages"
devices || die "something was left behind"
if [ "$(free_kib)" -ge $((256 << 10)) ]; then
    echo "in hugepages"
    MILLRACE_DPDK_HUGEPAGES=1 devices || die "something was left behind"
else
    echo "not in hugepages: less than 256 MiB of them are free (sysctl vm.nr_hugepages=128)"
fi

cat >"$work/node.toml" <<END
[node]
memory = "64MiB"
[[port]]
name = "ring"
kind = "dpdk"
device = "net_ring0"
addresses = "10.9.0.1/24"
[[listener]]
address = "10.9.0.1"
http = 80
[[site]]
hosts = "*"
redirect = { https = true }
END
export MILLRACE_RUN=$work/run

start() {
    # The last node's log would say at once that this one serves, before it has even begun.
    : >"$work/log"
    "$millrace" run --config "$work/node.toml" >"$work/log" 2>&1 &
    node=$!
    local tries=0
    until grep -q ' serves http' "$work/log"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$node" 2>/dev/null; then
            cat "$work/log" >&2
            die "the node does not start"
        fi
        sleep 0.05
    done
}

# Some of the folders need not be there.
files() {
    { find /dev/hugepages /var/run/dpdk /run/dpdk "$work/run" -type f 2>/dev/null || true; } | wc -l
}

before=$(free_kib)
start && kill -TERM "$node" && wait "$node"
files=$(files)
for ((i = 0; i < nodes; i++)); do
    start
    if [ $((i % 5)) = 4 ]; then
        kill -KILL "$node"
        wait "$node" 2>/dev/null || true
    else
        kill -TERM "$node"
        wait "$node" || { cat "$work/log" >&2; die "a node did not stop in order"; }
    fi
    node=
done
start && kill -TERM "$node" && wait "$node"
node=
echo "$nodes nodes, every fifth killed"
[ "$(free_kib)" = "$before" ] || die "hugepages: $before KiB were free, $(free_kib) KiB are"
now=$(files)
[ "$now" = "$files" ] || die "$files files were there, $now are"
echo "nothing was left behind"
