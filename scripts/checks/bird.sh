#!/usr/bin/env bash
# The exception path carries a routing daemon and ssh: BIRD beside the node, over the address that both have, keeps its
# session with a BIRD at the client's while wrk loads the node's own port, an ssh login goes on (where sshd is
# installed), and a route that BIRD learns takes the node to an origin that nothing else leads to.
#
#   scripts/checks/bird.sh [PROGRAM [SECONDS]]     root, bird2; PROGRAM: target/release/millrace; SECONDS of load: 20
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

program=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/millrace}")
seconds=${2:-20}
for tool in bird birdc wrk curl ip; do have "$tool" || die "$tool is missing: apt-get install bird2 wrk curl iproute2"; done
[ -x "$program" ] || die "no $program: build it with cargo build --release"

prefix=b$(printf %x $$)
net=$prefix-net client=$prefix-client origin=$prefix-origin
files=$(mktemp -d)
pids=()

finish() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    scripts/lab/lab --prefix "$prefix" down >/dev/null || true
    rm -rf "$files"
}
trap finish EXIT

until_true() { # SECONDS WHAT COMMAND…
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || { cat "$files/node.log"; die "not in time: $what"; }
        sleep 0.2
    done
}

scripts/lab/lab --prefix "$prefix" up --no-edge >/dev/null
# The bridge hears the frames too, and is not to answer for an address that came by another interface.
ip netns exec "$net" sh -c 'echo 1 >/proc/sys/net/ipv4/conf/br0/rp_filter'

cat >"$files/node.toml" <<END
[node]
name = "$prefix"
memory = "256MiB"
[[port]]
name = "wan"
kind = "tap"
device = "mr0"
host_if = "wan0"
addresses = ["10.80.0.1/24", "fd80::1/64"]
[[listener]]
address = ["10.80.0.1", "fd80::1"]
http = 80
[[site]]
hosts = "far.lab"
origin = "http://192.0.2.3:80"
[[site]]
hosts = "*"
origin = "http://10.80.0.3:80"
END
MILLRACE_RUN=$files/run ip netns exec "$net" "$program" run --config "$files/node.toml" >"$files/node.log" 2>&1 &
pids+=($!)
until_true 30 "the node's start" grep -q 'serves http' "$files/node.log"

# NAME NAMESPACE OWN NEIGHBOUR OWN-AS NEIGHBOUR-AS
start_bird() {
    cat >"$files/$1.conf" <<END
router id $3;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; }
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
protocol static { ipv4; $7 }
protocol bgp peer4 {
    local $3 as $5; neighbor $4 as $6; hold time 3; keepalive time 1; bfd on;
    ipv4 { import all; export where source = RTS_STATIC; };
}
protocol ospf v3 ospf6 { ipv6 { import all; export none; }; area 0 { interface "$8" { hello 1; dead 4; }; }; }
END
    ip netns exec "$2" bird -f -c "$files/$1.conf" -s "$files/$1.ctl" -P "$files/$1.pid" >"$files/$1.log" 2>&1 &
    pids+=($!)
}
start_bird edge "$net" 10.80.0.1 10.80.0.2 65001 65002 '' wan0
# The way to 192.0.2.0/24, where the origin has an address.
start_bird peer "$client" 10.80.0.2 10.80.0.1 65002 65001 'route 192.0.2.0/24 via 10.80.0.3;' eth0
ip -n "$origin" addr add 192.0.2.3/32 dev eth0

ask() { birdc -s "$files/$1.ctl" show protocols all "$2" 2>/dev/null; }
established() { ask edge peer4 | grep -q 'BGP state: *Established'; }
full() { birdc -s "$files/edge.ctl" show ospf neighbors ospf6 2>/dev/null | grep -q Full; }
until_true 60 "BGP" established
until_true 60 "OSPF" full
began=$(ask edge peer4 | awk '$1 == "peer4" { print $5 }')
echo "BGP established, OSPFv3 full"

status() { ip netns exec "$client" curl -s -o /dev/null -w '%{http_code}' --max-time 5 -H "Host: $1" http://10.80.0.1/1k || true; }
reached() { [ "$(status far.lab)" = 200 ]; }
until_true 20 "an origin by BGP's route" reached
echo "an origin reached by the route that BIRD has learned: $(ip -n "$net" route show 192.0.2.0/24)"

if have sshd && have ssh-keygen; then
    ssh-keygen -q -t ed25519 -N '' -f "$files/host" && ssh-keygen -q -t ed25519 -N '' -f "$files/user"
    mkdir -p /run/sshd
    cp "$files/user.pub" "$files/authorized" && chmod 755 "$files" && chmod 600 "$files/authorized"
    : >"$files/sshd.log"
    ip netns exec "$net" "$(command -v sshd)" -D -e -f /dev/null -h "$files/host" -o ListenAddress=10.80.0.1 \
        -o AuthorizedKeysFile="$files/authorized" -o StrictModes=no -o PidFile="$files/sshd.pid" \
        -o PermitRootLogin=prohibit-password >"$files/sshd.log" 2>&1 &
    pids+=($!)
    until_true 10 "sshd" grep -q 'Server listening' "$files/sshd.log"
    # A line each second, as long as the load.
    ip netns exec "$client" ssh -n -F /dev/null -i "$files/user" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@10.80.0.1 \
        "for i in \$(seq $seconds); do echo line \$i; sleep 1; done" >"$files/ssh.out" 2>"$files/ssh.err" &
    ssh=$!
else
    echo "no sshd here: left out"
fi

ip netns exec "$client" ping -q -i 0.1 -w "$seconds" 10.80.0.1 >"$files/ping.out" &
ping=$!
ip netns exec "$client" wrk -t 2 -c 64 -d "${seconds}s" --latency http://10.80.0.1/1k >"$files/wrk.out"
wait "$ping" || true
grep -E 'Requests/sec|Non-2xx|Socket errors' "$files/wrk.out"
grep -E 'packets transmitted|rtt' "$files/ping.out"
if [ -n "${ssh-}" ]; then
    wait "$ssh" || die "ssh ended early: $(cat "$files/ssh.err" "$files/sshd.log")"
    [ "$(wc -l <"$files/ssh.out")" = "$seconds" ] || die "ssh: $(wc -l <"$files/ssh.out") lines of $seconds"
    echo "ssh: a session of $seconds s, whole"
fi
established || die "BGP is down: $(ask edge peer4)"
full || die "OSPF is down"
[ "$(ask edge peer4 | awk '$1 == "peer4" { print $5 }')" = "$began" ] || die "the BGP session has been down meanwhile"
reached || die "the far origin is lost"
MILLRACE_RUN=$files/run "$program" stats law
echo "BGP (hold time 3 s, with BFD at 1.5 s) and OSPFv3 stayed up for $seconds s under load"
