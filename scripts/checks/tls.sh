#!/usr/bin/env bash
# Ordinary TLS clients of `millrace demo --https`: curl, wget, openssl s_client (1.2, 1.3, resumption, KeyUpdate, a name
# that nobody has, no ALPN), and Chromium, where it is installed; and of a node that takes early data. No root, no NIC.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

case "${1-}" in
'') ;;
*) echo "usage: scripts/checks/tls.sh    (the program: target/release/millrace, or MILLRACE)"; [ "$1" = -h ] || [ "$1" = --help ]; exit ;;
esac
millrace=${MILLRACE:-${CARGO_TARGET_DIR:-target}/release/millrace}
dir=$(mktemp -d /tmp/millrace-tls.XXXXXX)
passed=0 failed=0 skipped=0 demo= others=
finish() {
    local code=$?
    trap - EXIT INT TERM
    for pid in $demo $others; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND…: in a shell with pipefail.
check() {
    local name=$1 began=$SECONDS
    shift
    if timeout 60 bash -o pipefail -c "$*" >"$dir/out" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %-58s %3s s\n' "$name" $((SECONDS - began))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-58s\n' "$name"
        tail -n 5 "$dir/out" | sed 's/^/          /'
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "skip  $1"
}

export MILLRACE_RUN=$dir/run
"$millrace" demo --listen 127.0.0.1:0 --https >"$dir/demo" 2>"$dir/demo.err" &
demo=$!
for _ in $(seq 100); do
    grep -q https:// "$dir/demo" && break
    kill -0 $demo 2>/dev/null || die "the demo ended: $(cat "$dir/demo.err")"
    sleep 0.1
done
at=$(grep -o 'https://[^/ ]*' "$dir/demo" | head -n 1 | cut -c 9-)
[ -n "$at" ] || die "the demo did not say where it serves https: $(cat "$dir/demo")"
port=${at##*:}
openssl s_client -connect "$at" -servername localhost </dev/null 2>/dev/null | openssl x509 >"$dir/ca.pem"
url=https://localhost:$port/
client="openssl s_client -connect $at -servername localhost -CAfile $dir/ca.pem -verify_return_error"
get='printf "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"; sleep 1'

check "curl, TLS 1.3" "curl -fsS --cacert $dir/ca.pem --tlsv1.3 $url -o $dir/page && test -s $dir/page"
check "curl, TLS 1.2, the same page" "curl -fsS --cacert $dir/ca.pem --tls-max 1.2 $url | cmp - $dir/page"
check "curl, two requests on one connection" "curl -fsS --cacert $dir/ca.pem -v $url $url -o /dev/null -o /dev/null 2>&1 | grep -qi 're-using\|reusing'"
check "curl does not believe a self-signed certificate" "! curl -fsS $url -o /dev/null"
check "curl, plain HTTP on the TLS port: refused" "! curl -fsS http://$at/ -o /dev/null"
check "wget" "wget -q --ca-certificate=$dir/ca.pem -O - $url | cmp - $dir/page"
for v in 1_2 1_3; do
    check "openssl, TLS $v" "($get) | $client -tls$v -quiet 2>/dev/null | grep -q '200 OK'"
    check "openssl, TLS $v, resumed" "
        ($get) | $client -tls$v -sess_out $dir/session$v >/dev/null 2>&1
        ($get) | $client -tls$v -sess_in $dir/session$v 2>/dev/null | grep -q '^Reused, '"
done
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
    check "openssl, $suite" "($get) | $client -ciphersuites $suite 2>/dev/null | grep -q 'Cipher is $suite'"
done
check "openssl, KeyUpdate both ways between two requests" "
    (printf 'GET / HTTP/1.1\nHost: localhost\n\n'; sleep 1; echo K; sleep 1
        printf 'GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n'; sleep 1) |
        $client -crlf 2>/dev/null | grep -c '^HTTP/1.1 200 OK' | grep -qx 2"
check "openssl, a name that nobody has: the default certificate" "($get) | openssl s_client -connect $at -servername nobody.invalid -CAfile $dir/ca.pem 2>/dev/null | grep -q 'CN = localhost\|CN = millrace\|BEGIN CERTIFICATE'"
check "openssl, no name at all" "($get) | openssl s_client -connect $at -noservername 2>/dev/null | grep -q '200 OK'"
check "openssl, no ALPN" "($get) | $client 2>/dev/null | grep -q 'No ALPN negotiated'"
check "openssl, ALPN http/1.1" "($get) | $client -alpn http/1.1 2>/dev/null | grep -q 'ALPN protocol: http/1.1'"
check "openssl, TLS 1.1: refused" "! ($get) | $client -tls1_1 -cipher ALL@SECLEVEL=0 2>/dev/null | grep -q '200 OK'"
check "garbage instead of a handshake: an alert" "
    exec 3<>/dev/tcp/${at%:*}/$port; head -c 300 /dev/zero >&3; timeout 5 cat <&3 | od -An -tx1 | grep -q '15 03'"
if have chromium; then
    check "chromium shows the page" "chromium --headless --no-sandbox --disable-gpu --ignore-certificate-errors --user-data-dir=$dir/chromium --virtual-time-budget=5000 --dump-dom $url | grep -qi '<html'"
else
    skip "chromium is not installed"
fi
kill -TERM $demo
code=0
wait $demo || code=$?
demo=
check "the demo ends in order" "[ $code = 0 ]"

# A node that takes early data, before an origin that says how it was asked and does not want /later early.
cat >"$dir/origin.py" <<'EOF'
import http.server, sys
class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode()
        early = self.headers.get("Early-Data", "none")
        text = f"method={self.command} early={early} body={body}\n".encode()
        self.send_response(425 if self.path == "/later" and early == "1" else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_POST = do_GET
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
print(server.server_address[1], flush=True)
server.serve_forever()
EOF
python3 "$dir/origin.py" >"$dir/origin" &
others=$!
for _ in $(seq 100); do [ -s "$dir/origin" ] && break; sleep 0.1; done
early_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(cd "$dir" && "$millrace" cert self-signed localhost 127.0.0.1 >/dev/null)
cat >"$dir/early.toml" <<EOF
[node]
name = "early"
memory = "256MiB"

[[port]]
name = "local"
kind = "host"

[[listener]]
address = "127.0.0.1"
https = $early_port

[[site]]
hosts = "*"
origin = "http://127.0.0.1:$(cat "$dir/origin")"
certificate = { chain = "$dir/cert.pem", key = "$dir/key.pem" }

[tls]
early_data = true
EOF
"$millrace" run --config "$dir/early.toml" >"$dir/early.log" 2>&1 &
others="$others $!"
for _ in $(seq 100); do
    curl -fsS --cacert "$dir/cert.pem" "https://localhost:$early_port/" -o /dev/null 2>/dev/null && break
    sleep 0.1
done
client="openssl s_client -connect 127.0.0.1:$early_port -servername localhost -CAfile $dir/cert.pem -verify_return_error"
printf 'GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n' >"$dir/now"
printf 'GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n' >"$dir/later"
printf 'POST /now HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello' >"$dir/post"
# early FILE WORDS…: a session, then the file as early data; what comes back has all of these.
early() {
    local file=$1
    shift
    echo "($get) | $client -sess_out $dir/early >/dev/null 2>&1
        sleep 2 | $client -sess_in $dir/early -early_data $dir/$file >$dir/said 2>/dev/null
        for word in $*; do grep -q -- \$word $dir/said || { cat $dir/said; exit 1; }; done"
}
check "openssl, early data: an answer, the origin is told" "$(early now 'Early.data.was.accepted early=1')"
check "openssl, early data: a POST waits" "$(early post 'Early.data.was.accepted method=POST early=none body=hello')"
check "openssl, early data: an origin that says 425 is asked again" "$(early later 'Early.data.was.accepted early=none')"
check "openssl, early data: a session is good for one use" "
    sleep 1 | $client -sess_in $dir/early -early_data $dir/now 2>/dev/null | grep -q 'Early data was rejected'"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
