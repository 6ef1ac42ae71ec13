#!/usr/bin/env bash
# The static binary alone in an empty Debian root: it starts on net_ring and on net_af_packet, and serves. The root is made by
# debootstrap where that is installed; else it has nothing but the C library and libgcc_s, out of their packages. Needs root.
#
# usage: scripts/checks/static.sh [BINARY]     built with --release --features dpdk-static where it is not given
#        MILLRACE_ROOT=plain: without debootstrap
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

[ "$(id -u)" = 0 ] || die "needs root, for chroot and namespaces"
binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --release --locked --features dpdk-static --bin millrace
    target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    binary=$target/release/millrace
fi
[ -x "$binary" ] || die "no $binary"

work=$(mktemp -d)
root=$work/root
edge=mr-static-edge-$$ peer=mr-static-peer-$$
node='' origin=''

end() {
    for pid in $node $origin; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    ip netns del "$edge" 2>/dev/null || true
    ip netns del "$peer" 2>/dev/null || true
    # Mounts are the node's own, and gone with it.
    rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

echo "needs where it runs:"
ldd "$binary" | awk '{ print "  " $1 }'
if ldd "$binary" | grep -qE 'librte_|libnuma|libbsd'; then die "$binary is not static"; fi

if have debootstrap && [ "${MILLRACE_ROOT:-}" != plain ]; then
    debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
else
    mkdir -p "$root"/{bin,lib64,proc,sys,dev,tmp,run}
    (cd "$work" && apt-get -qq download libc6 libgcc-s1 && for deb in ./*.deb; do dpkg-deb -x "$deb" "$root"; done)
fi
echo "the root: $(find "$root" -xdev -type f | wc -l) files, of DPDK $(find "$root" -xdev -name 'librte*' | wc -l)"
cp "$binary" "$root/millrace"

ip netns add "$edge"
ip netns add "$peer"
ip -n "$edge" link set lo up
ip -n "$edge" link add mrs0 type veth peer name mrs1 netns "$peer"
ip netns exec "$edge" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/mrs0/disable_ipv6'
ip -n "$edge" link set mrs0 up
ip -n "$peer" link set lo up
ip -n "$peer" addr add 10.98.0.2/24 dev mrs1
ip -n "$peer" link set mrs1 up
# The kernel hands out unfinished checksums over veth else.
ip netns exec "$peer" ethtool -K mrs1 tx off >/dev/null

# inside ARGS…: becomes millrace in the root, with file systems of its own; to be called in a subshell.
inside() {
    exec ip netns exec "$edge" unshare --mount sh -c '
        mount -t proc proc "$0/proc" && mount -t sysfs sysfs "$0/sys" && mount --rbind /dev "$0/dev" || exit 1
        root=$0; exec chroot "$root" /millrace "$@"' "$root" "$@"
}

# start NAME: with the config on standard input.
start() {
    { printf '[node]\nname = "%s"\nmemory = "64MiB"\n' "$1" && cat; } >"$root/$1.toml"
    (inside run --config "/$1.toml" >"$work/$1.log" 2>&1) &
    node=$!
    local tries=0
    until grep -q ' serves http' "$work/$1.log"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$node" 2>/dev/null; then
            cat "$work/$1.log" >&2
            die "it does not start"
        fi
        sleep 0.05
    done
    grep -o 'dpdk net_.*' "$work/$1.log" | cut -d'"' -f1
}

stop() {
    kill -TERM "$node"
    wait "$node" || { cat "$work/$1.log" >&2; die "it did not stop in order"; }
    node=
}

expect() {
    local got
    got=$(ip netns exec "$2" curl -sS --max-time 10 -o /dev/null -w '%{http_code}' "$3") || true
    [ "$got" = "$1" ] || die "$3 answered $got, not $1"
    echo "$3: $got"
}

start packet <<'END'
[[port]]
name = "wan"
kind = "dpdk"
device = "net_af_packet0,iface=mrs0"
addresses = "10.98.0.1/24"
[[listener]]
address = "10.98.0.1"
http = 80
[[site]]
hosts = "*"
origin = "http://10.98.0.2:8000"
[[site]]
hosts = "moved.example"
redirect = { https = true }
END
mkdir "$work/www" && echo hello >"$work/www/hello"
ip netns exec "$peer" python3 -m http.server -b 10.98.0.2 -d "$work/www" 8000 >/dev/null 2>&1 &
origin=$!
tries=0
until ip netns exec "$peer" curl -sS -o /dev/null http://10.98.0.2:8000/hello 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || die "the origin does not start"
    sleep 0.1
done
expect 200 "$peer" http://10.98.0.1/hello
expect 404 "$peer" http://10.98.0.1/nothing
(inside stats --node packet) >/dev/null
stop packet

start ring <<'END'
[[port]]
name = "ring"
kind = "dpdk"
device = "net_ring0"
addresses = "10.9.0.1/24"
[[port]]
name = "here"
kind = "host"
[[listener]]
address = ["10.9.0.1", "127.0.0.1"]
http = 8080
[[site]]
hosts = "*"
redirect = { https = true }
END
expect 308 "$edge" http://127.0.0.1:8080/
stop ring
echo "the static binary serves alone"
