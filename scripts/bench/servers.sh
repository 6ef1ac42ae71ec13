# shellcheck shell=bash
# The servers that are held against each other, sourced after lib.sh: how each is started, where it answers, what it has
# used of its CPU. Each has one core ($server_cpu) and one worker, and no access log.

. scripts/bench/rig.sh

declare -A pid url

# Those of the kernel's TCP live in a namespace of their own, behind a veth pair.
start_peers() { # SERVER…
    local name
    ip netns add "$peer"
    ip -n "$net" link add peer0 type veth peer name eth0 netns "$peer"
    ip -n "$net" link set peer0 master br0 up
    ip -n "$peer" link set lo up
    ip -n "$peer" link set eth0 up
    ip -n "$peer" addr add 10.80.0.4/24 dev eth0
    for name in "$@"; do
        "start_$name"
        pid[$name]=$started
        answers "${url[$name]}/cached/1k" "$name"
    done
}

start_nginx() {
    url[nginx]=http://10.80.0.4:8001
    start_in "$peer" "$server_cpu" nginx nginx -p "$dir" -e "$dir/nginx.err" -c "$(filled nginx.conf)"
}

start_haproxy() {
    url[haproxy]=http://10.80.0.4:8002
    start_in "$peer" "$server_cpu" haproxy haproxy -db -f "$(filled haproxy.conf)"
}

start_varnish() {
    url[varnish]=http://10.80.0.4:8003
    start_in "$peer" "$server_cpu" varnish varnishd -F -j none -n "$dir/varnish" -T none -a 10.80.0.4:8003 \
        -s malloc,64m -p thread_pools=1 -f "$(filled varnish.vcl.conf)"
}

start_h2o() {
    url[h2o]=http://10.80.0.4:8004
    start_in "$peer" "$server_cpu" h2o h2o -c "$(filled h2o.conf)"
}

# Ticks of the CPU clock of a server's process and its children: all threads, those that have ended too.
ticks() { # SERVER
    local sum=0 p line main=${pid[$1]}
    for p in "$main" $(pgrep -P "$main" || true); do
        line=$(cat "/proc/$p/stat" 2>/dev/null) || continue
        # shellcheck disable=SC2086
        set -- ${line##*) }
        sum=$((sum + ${12} + ${13}))
    done
    echo $sum
}

busy() { # SERVER: busy cycles of a node; 0 for all others
    case $1 in
    millrace*) of_node stats all --json | jq '.counters."loop.busy_cycles"' ;;
    *) echo 0 ;;
    esac
}

helped() { # SERVER: steps of handshakes that threads beside a node's core have taken; 0 for all others
    case $1 in
    millrace*) of_node stats all --json | jq '.counters."tls.helped" // 0' ;;
    *) echo 0 ;;
    esac
}

asked() { # how many requests the origin has seen, this one too
    ip netns exec "$client" curl -fsS http://10.80.0.3:8080/status | awk 'NR == 3 { print $3 }'
}

# Cycles of the time stamp counter in a second, as the kernel measured it (cpu MHz of a guest is the TSC's).
tsc_hz() {
    awk -F: '/^cpu MHz/ { printf "%d", $2 * 1e6; exit }' /proc/cpuinfo
}
