#!/usr/bin/env bash
# Certificates swapped under load: pktgen http asks an edge by https, over TAP devices on one bridge, on kept
# connections, with full handshakes and with resumed ones, while the certificate is replaced and the node reloads, again and again. No request may fail.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

case "${1-}" in
'') ;;
*) echo "usage: sudo scripts/checks/tls-swap.sh    (the program: target/release/millrace, or MILLRACE; SECONDS_EACH=10)"; [ "$1" = -h ] || [ "$1" = --help ]; exit ;;
esac
[ "$(id -u)" = 0 ] || die "namespaces and TAP devices need root: sudo $0"
have jq || die "needs jq: scripts/setup.sh"
millrace=${MILLRACE:-${CARGO_TARGET_DIR:-target}/release/millrace}
each=${SECONDS_EACH:-10}
ns='millrace-swap'
dir=$(mktemp -d /tmp/millrace-swap.XXXXXX)
export MILLRACE_RUN=$dir/run
passed=0 failed=0 edge='' origin=''
finish() {
    local code=$?
    trap - EXIT INT TERM
    for pid in $edge $origin; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    ip netns del $ns 2>/dev/null || true
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Certificates of one issuer, so that the client believes both.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=swap CA" \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
make_certificate() { # NAME
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=any.lab" -keyout "$dir/$1.key" -out "$dir/$1.csr" 2>/dev/null
    openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 20 \
        -extfile <(echo subjectAltName=DNS:any.lab) -out "$dir/$1.pem" 2>/dev/null
}
make_certificate a
make_certificate b
put() { # NAME: one file with both, so that it changes at once
    cat "$dir/$1.key" "$dir/$1.pem" >"$dir/site.new"
    mv "$dir/site.new" "$dir/site.pem"
}
put a
cat >"$dir/edge.toml" <<EOF
[node]
name = "swap"
memory = "256MiB"

[[port]]
name = "lan"
kind = "tap"
device = "e0"
addresses = ["10.80.0.1/24"]

[[listener]]
address = "10.80.0.1"
https = 443

[[site]]
hosts = "any.lab"
origin = "http://10.80.0.3:8000"
certificate = { chain = "$dir/site.pem", key = "$dir/site.pem" }
cache = { default_ttl = "1h" }

# The load is one source.
[tls]
handshakes_per_source_max = 1000
EOF
"$millrace" check "$dir/edge.toml" >/dev/null
mkdir "$dir/www"
head -c 1024 /dev/urandom >"$dir/www/1k"

# The edge, the load and the origin on one bridge.
ip netns add $ns
in_ns() { ip netns exec $ns "$@"; }
in_ns ip link set lo up
in_ns ip link add br0 type bridge
in_ns ip addr add 10.80.0.3/24 dev br0
in_ns ip link set br0 up
# Not by in_ns: what is started has to be what $! names.
ip netns exec $ns python3 -m http.server 8000 --bind 10.80.0.3 --directory "$dir/www" >/dev/null 2>&1 &
origin=$!
ip netns exec $ns "$millrace" run --config "$dir/edge.toml" >"$dir/edge.log" 2>&1 &
edge=$!
for device in e0 p0; do
    [ $device = e0 ] || in_ns ip tuntap add p0 mode tap vnet_hdr
    for _ in $(seq 100); do
        in_ns ip link set $device master br0 up 2>/dev/null && break
        sleep 0.1
    done
done

load() { # NAME ARGUMENTS…
    local name=$1
    shift
    ip netns exec $ns "$millrace" pktgen http https://10.80.0.1/1k --port tap:p0 --address 10.80.0.9/24 \
        --host any.lab --ca "$dir/ca.pem" --duration "${each}s" --json "$@" >"$dir/$name.json" 2>"$dir/$name.err" &
    local client=$! swaps=0 which=b
    while kill -0 $client 2>/dev/null; do
        sleep 0.3
        put $which
        kill -HUP "$edge_pid"
        swaps=$((swaps + 1))
        if [ $which = a ]; then which=b; else which=a; fi
    done
    local code=0
    wait $client || code=$?
    local summary
    summary=$(jq -c '{requests, errors, tls}' "$dir/$name.json" 2>/dev/null || tail -n 1 "$dir/$name.err")
    if [ $code = 0 ] && [ "$(jq .errors "$dir/$name.json")" = 0 ]; then passed=$((passed + 1)); echo "ok    $name, $swaps swaps: $summary"
    else failed=$((failed + 1)); echo "FAIL  $name, $swaps swaps, exit $code: $summary $(tail -n 2 "$dir/$name.err")"; fi
}
edge_pid=$(cat "$MILLRACE_RUN"/swap/pid)
load kept
load full --close --tls full
load resumed --close --tls resumed
echo "$passed passed, $failed failed"
[ $failed = 0 ]
