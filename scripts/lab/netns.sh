#!/usr/bin/env bash
# The namespace lab: a client and an origin with the Linux kernel's TCP, and between them a TAP port for Millrace.
#
#   namespace mr-client          namespace mr-net                        namespace mr-origin
#   ┌──────────────────┐   ┌───────────────────────────────┐   ┌────────────────────────────┐
#   │ curl, wrk, ping  │   │  client0 ─┐          ┌─ origin0│   │ nginx on port 80           │
#   │ eth0 ────────────┼───┼───────────┤  br0     ├──────────┼───┼ eth0                       │
#   │ 10.80.0.2/24     │   │           └────┬─────┘         │   │ 10.80.0.3/24  fd80::3/64   │
#   │ fd80::2/64       │   │               mr0 (TAP)        │   └────────────────────────────┘
#   └──────────────────┘   │                │ read, write   │
#                          │  millrace: 10.80.0.1  fd80::1  │   its own MAC, no kernel socket
#                          └───────────────────────────────┘
#
# The bridge has no address: in mr-net only Millrace answers. All links are up at once, without duplicate address
# detection. Sums and segments: between namespaces the kernel passes on frames with unfinished checksums and up to
# 64 KiB; a TAP that was opened without offloads (IFF_VNET_HDR, TUNSETOFFLOAD) makes the kernel finish and cut them
# before they reach the file descriptor, so nothing has to be turned off with ethtool.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

usage() {
    cat <<'END'
usage: scripts/lab/netns.sh [--prefix NAME] up | status | edge [PROGRAM] | edge-stop | down

  up          namespaces, bridge, TAP device mr0, and nginx as the origin; a second `up` mends what is missing
  status      what is there; exit 0 when all of it is, 1 otherwise
  edge        starts `PROGRAM run --config scripts/lab/edge.toml` in NAME-net, in the background
              (PROGRAM: target/release/millrace)
  edge-stop   ends it: SIGTERM, and waits until it has drained
  down        ends nginx and the edge, by their pid files, and removes everything

  --prefix    begins the namespaces' names, so that several labs can stand side by side (default mr, or
              $MILLRACE_LAB_PREFIX); up to 8 letters and digits

Needs root. Files are in /var/lib/millrace-lab/NAME until `down`.
END
}

prefix=${MILLRACE_LAB_PREFIX:-mr}
verb='' program=''
while [ $# -gt 0 ]; do
    case "$1" in
    --prefix) prefix=${2-}; shift ;;
    --prefix=*) prefix=${1#*=} ;;
    -h | --help) usage; exit 0 ;;
    up | down | status | edge | edge-stop) if [ -n "$verb" ]; then usage >&2; exit 2; fi; verb=$1 ;;
    *) if [ "$verb" = edge ] && [ -z "$program" ]; then program=$1; else usage >&2; exit 2; fi ;;
    esac
    shift
done
if [ -z "$verb" ]; then usage >&2; exit 2; fi
[[ $prefix =~ ^[a-z0-9]{1,8}$ ]] || die "--prefix \"$prefix\": 1 to 8 small letters and digits"
[ "$(id -u)" = 0 ] || die "namespaces and TAP devices need root: sudo $0 $verb"

net=$prefix-net client=$prefix-client origin=$prefix-origin
tap=mr0
base=/var/lib/millrace-lab
lab=$base/$prefix

ns_exists() {
    [ -e "/run/netns/$1" ] && ip netns exec "$1" true 2>/dev/null
}

# The process of a pid file, if it lives and is still ours: a number may have been given to somebody else since.
pid_in() { # FILE NAMESPACE
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] && ip netns pids "$2" 2>/dev/null | grep -qx "$pid" && echo "$pid"
}

wait_for() { # SECONDS COMMAND…
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.1
    done
}

gone() {
    [ ! -e "/proc/$1" ]
}

stop() { # NAME PIDFILE NAMESPACE SIGNAL SECONDS
    local pid
    pid=$(pid_in "$2" "$3") || { rm -f "$2"; return 0; }
    kill -s "$4" "$pid" 2>/dev/null || true
    if ! wait_for "$5" gone "$pid"; then
        echo "$1 (pid $pid) did not end in $5 s: killed" >&2
        kill -s KILL "$pid" 2>/dev/null || true
        wait_for 5 gone "$pid" || die "$1 (pid $pid) cannot be killed"
    fi
    rm -f "$2"
}

# --- up -----------------------------------------------------------------------------------------------------

add_ns() {
    ns_exists "$1" && return
    # A name without a namespace behind it is left over from a reboot of /run's owner.
    rm -f "/run/netns/$1"
    ip netns add "$1"
}

sysctl_in() { # NAMESPACE PATH=VALUE…
    local ns=$1 pair
    shift
    for pair in "$@"; do
        ip netns exec "$ns" sh -c "echo ${pair#*=} >/proc/sys/${pair%%=*}" 2>/dev/null ||
            echo "note: $ns: cannot set ${pair%%=*}" >&2
    done
}

host() { # NAMESPACE BRIDGE-PORT IPV4 IPV6
    local ns=$1 port=$2
    if ! ip -n "$ns" link show eth0 >/dev/null 2>&1; then
        ip -n "$net" link del "$port" 2>/dev/null || true
        ip -n "$net" link add "$port" type veth peer name eth0 netns "$ns"
    fi
    ip -n "$net" link set "$port" master br0 up
    ip -n "$ns" link set lo up
    ip -n "$ns" link set eth0 up
    ip -n "$ns" addr replace "$3" dev eth0
    ip -n "$ns" addr replace "$4" dev eth0 nodad
}

make_file() { # NAME BYTES: the same bytes each time (AES in counter mode under a fixed key), that nothing can compress
    local file=$lab/www/$1
    [ "$(stat -c %s "$file" 2>/dev/null)" = "$2" ] && return
    head -c "$2" /dev/zero |
        openssl enc -aes-128-ctr -K 6d696c6c72616365000000000000006c -iv "$(printf '%032x' "$2")" >"$file"
}

write_origin() {
    mkdir -p "$lab/www/upload" "$lab/tmp"
    make_file 0 0
    make_file 1 1
    make_file 1k 1024
    make_file 1m 1048576
    make_file 200m 209715200
    [ -s "$lab/www/SHA256SUMS" ] || (cd "$lab/www" && sha256sum 0 1 1k 1m 200m >SHA256SUMS)
    cat >"$lab/nginx.conf" <<END
# Made by scripts/lab/netns.sh. Runs as root, in a namespace that leads nowhere else, so that it may write here.
user root;
worker_processes 2;
pid $lab/nginx.pid;
error_log $lab/error.log;
events { worker_connections 8192; }
http {
    log_format lab '\$msec \$remote_addr:\$remote_port "\$request" \$status sent=\$bytes_sent received=\$request_length '
                   'connection=\$connection/\$connection_requests host="\$http_host" via="\$http_via" xff="\$http_x_forwarded_for"';
    access_log $lab/access.log lab;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout 75s;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path $lab/tmp/body;
    proxy_temp_path $lab/tmp/proxy;
    fastcgi_temp_path $lab/tmp/fastcgi;
    uwsgi_temp_path $lab/tmp/uwsgi;
    scgi_temp_path $lab/tmp/scgi;
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096 ipv6only=on;
        root $lab/www;
        etag on;
        location = / { default_type text/plain; return 200 "millrace lab origin\n"; }
        # PUT stores the body under www/upload; a GET of the same path gives it back.
        location /upload/ { dav_methods PUT DELETE; min_delete_depth 2; }
        # POST does the same, as a PUT to ourselves.
        location /post/ {
            proxy_pass http://unix:$lab/nginx.sock:/upload/;
            proxy_method PUT;
        }
    }
    server {
        listen unix:$lab/nginx.sock;
        access_log off;
        root $lab/www;
        location /upload/ { dav_methods PUT; }
    }
}
END
}

start_origin() {
    if pid_in "$lab/nginx.pid" "$origin" >/dev/null; then return; fi
    # A socket that a killed nginx left behind would keep a new one from starting.
    rm -f "$lab/nginx.pid" "$lab/nginx.sock"
    # A proxied upload takes several descriptors; as many as the host allows.
    ulimit -n "$(ulimit -Hn)"
    ip netns exec "$origin" nginx -p "$lab" -e "$lab/error.log" -c "$lab/nginx.conf" </dev/null >"$lab/nginx.out" 2>&1 ||
        die "nginx did not start: $(cat "$lab/nginx.out")"
    wait_for 10 pid_in "$lab/nginx.pid" "$origin" >/dev/null || die "nginx did not start; see $lab/error.log"
    wait_for 10 reaches_origin || die "nginx does not answer in $client; see $lab/error.log"
}

reaches_origin() {
    ip netns exec "$client" curl -fsS -o /dev/null --max-time 2 http://10.80.0.3/ 2>/dev/null &&
        ip netns exec "$client" curl -fsS -o /dev/null --max-time 2 'http://[fd80::3]/' 2>/dev/null
}

up() {
    local tool
    for tool in ip nginx curl openssl; do have "$tool" || die "$tool is missing: scripts/setup.sh installs it"; done
    [ -c /dev/net/tun ] || die "/dev/net/tun is missing: modprobe tun"
    nginx -V 2>&1 | grep -q http_dav_module || die "this nginx has no PUT (http_dav_module): install Debian's nginx-light"
    [ ! -L "$base" ] || die "$base is a link; remove it"
    (umask 077 && mkdir -p "$lab")

    local ns
    for ns in "$net" "$client" "$origin"; do add_ns "$ns"; done
    # In mr-net the kernel only bridges: it must say nothing of its own.
    sysctl_in "$net" net/ipv6/conf/all/disable_ipv6=1 net/ipv6/conf/default/disable_ipv6=1
    ip -n "$net" link show br0 >/dev/null 2>&1 ||
        ip -n "$net" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    ip -n "$net" link show "$tap" >/dev/null 2>&1 || ip -n "$net" tuntap add dev "$tap" mode tap
    ip -n "$net" link set "$tap" master br0 up
    ip -n "$net" link set br0 up
    for ns in "$client" "$origin"; do
        sysctl_in "$ns" net/ipv6/conf/default/accept_dad=0 net/ipv6/conf/default/accept_ra=0 \
            net/core/somaxconn=4096 net/ipv4/ip_local_port_range='"1024 65000"'
    done
    host "$client" client0 10.80.0.2/24 fd80::2/64
    host "$origin" origin0 10.80.0.3/24 fd80::3/64

    write_origin
    start_origin
    cat <<END
The lab "$prefix" is up. To try:
  scripts/lab/netns.sh --prefix $prefix edge                       # millrace in $net; its log: $lab/edge.log
  ip netns exec $client ping -c 3 10.80.0.1                  # and: ping -6 fd80::1
  ip netns exec $client curl -v http://10.80.0.1/            # over IPv6: 'http://[fd80::1]/'
  ip netns exec $client curl -s http://10.80.0.1/200m | sha256sum;  grep 200m $lab/www/SHA256SUMS
  ip netns exec $client curl -T $lab/www/1m http://10.80.0.1/upload/1m;  sha256sum $lab/www/upload/1m
  ip netns exec $client wrk -c 256 -d 10s http://10.80.0.1/1k
  ip netns exec $client curl http://10.80.0.3/               # the origin itself, past the edge
  ip netns exec $client tcpdump -ni eth0                     # our frames on the client's side
  ip netns exec $net ss -tln                                 # no kernel socket of the edge's
  MILLRACE_RUN=$lab/run target/release/millrace stats --watch
  scripts/lab/netns.sh --prefix $prefix down
Files 0, 1, 1k, 1m and 200m are named after their sizes. Host: v6.lab makes the edge use IPv6 to the origin.
END
}

# --- the edge -----------------------------------------------------------------------------------------------

edge() {
    ns_exists "$net" || die "the lab is not up: scripts/lab/netns.sh --prefix $prefix up"
    local pid binary=${program:-${CARGO_TARGET_DIR:-target}/release/millrace}
    if pid=$(pid_in "$lab/edge.pid" "$net"); then
        echo "the edge runs already, as pid $pid"
        return
    fi
    [ -x "$binary" ] || die "no $binary: build it with cargo build --release, or name another"
    binary=$(realpath "$binary")
    (umask 077 && mkdir -p "$lab/run")
    # `ip netns exec` and `sh` both become the program: the pid is the node's own.
    # shellcheck disable=SC2016
    MILLRACE_RUN=$lab/run setsid ip netns exec "$net" sh -c 'echo $$ >"$1"; shift; exec "$@"' - \
        "$lab/edge.pid" "$binary" run --config "$ROOT/scripts/lab/edge.toml" </dev/null >"$lab/edge.log" 2>&1 &
    # The TAP has a carrier as long as somebody has it open.
    if ! wait_for 20 edge_ready; then
        pid_in "$lab/edge.pid" "$net" >/dev/null && die "the edge did not open $tap in 20 s; see $lab/edge.log"
        die "the edge did not start: $(tail -n 5 "$lab/edge.log")"
    fi
    echo "the edge runs as pid $(cat "$lab/edge.pid"); its log: $lab/edge.log"
}

edge_ready() {
    if [ -s "$lab/edge.pid" ] && ! pid_in "$lab/edge.pid" "$net" >/dev/null; then
        sleep 0.2
        # It has ended: no use waiting on.
        pid_in "$lab/edge.pid" "$net" >/dev/null || die "the edge did not start: $(tail -n 5 "$lab/edge.log")"
    fi
    ip netns exec "$net" cat "/sys/class/net/$tap/carrier" 2>/dev/null | grep -qx 1
}

edge_stop() {
    stop "the edge" "$lab/edge.pid" "$net" TERM 15
}

# --- status and down ----------------------------------------------------------------------------------------

status() {
    local ns pid whole=true
    for ns in "$net" "$client" "$origin"; do
        if ns_exists "$ns"; then
            echo "$ns: up $(ip -n "$ns" -br addr show scope global | awk '$1 ~ /^eth0/ { $1 = $2 = ""; print }' | sed 's/^ *//')"
        else
            echo "$ns: absent"
            whole=false
        fi
    done
    if $whole; then
        for dev in "$net/br0" "$net/$tap" "$net/client0" "$net/origin0" "$client/eth0" "$origin/eth0"; do
            if ! ip -n "${dev%/*}" link show "${dev#*/}" >/dev/null 2>&1; then
                echo "$dev: absent"
                whole=false
            fi
        done
    fi
    if pid=$(pid_in "$lab/nginx.pid" "$origin"); then echo "nginx: pid $pid"; else echo "nginx: not running"; whole=false; fi
    if pid=$(pid_in "$lab/edge.pid" "$net"); then echo "edge: pid $pid"; else echo "edge: not started from here"; fi
    $whole
}

down() {
    local ns others
    edge_stop
    stop nginx "$lab/nginx.pid" "$origin" TERM 10
    # Workers end a moment after their master.
    wait_for 5 empty || true
    others=$(for ns in "$net" "$client" "$origin"; do
        if ns_exists "$ns"; then
            for pid in $(ip netns pids "$ns"); do
                echo "  $ns: pid $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-60))"
            done
        fi
    done)
    if [ -n "$others" ]; then
        echo "these still run in the lab; end them, then run down again:" >&2
        echo "$others" >&2
        exit 1
    fi
    for ns in "$net" "$client" "$origin"; do
        if [ -e "/run/netns/$ns" ]; then ip netns del "$ns"; fi
    done
    rm -rf "$lab"
    rmdir "$base" 2>/dev/null || true
    echo "the lab \"$prefix\" is gone"
}

empty() {
    local ns
    for ns in "$net" "$client" "$origin"; do
        if ns_exists "$ns" && [ -n "$(ip netns pids "$ns")" ]; then return 1; fi
    done
}

case "$verb" in
up) up ;;
status) status ;;
edge) edge ;;
edge-stop) edge_stop ;;
down) down ;;
esac
