#!/usr/bin/env bash
# Ordinary TLS clients of `millrace demo --https` (tls-clients.sh), and of a node that takes early data. No root, no NIC.
# clients.sh has the former for an edge on a TAP device.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/checks/tls-clients.sh

keep=
case "${1-}" in
'') ;;
--keep) keep=$(realpath -e "${2:?a folder}") ;;
*) echo "usage: scripts/checks/tls.sh [--keep DIR]    (the program: target/release/millrace, or MILLRACE; DIR gets Chromium's picture)"; [ "$1" = -h ] || [ "$1" = --help ]; exit ;;
esac
millrace=${MILLRACE:-${CARGO_TARGET_DIR:-target}/release/millrace}
dir=$(mktemp -d /tmp/millrace-tls.XXXXXX)
passed=0 failed=0 skipped=0 demo='' others=''
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
        printf 'ok    %-72s %3s s\n' "$name" $((SECONDS - began))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-72s\n' "$name"
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
openssl s_client -connect "$at" -servername localhost </dev/null 2>/dev/null | openssl x509 >"$dir/ca.pem"
tls_clients demo "$dir" "${at%:*}" "${at##*:}" localhost "https://$at/" "$dir/ca.pem" 'Millrace demo' "$keep"
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
get='printf "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"; sleep 1'
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
