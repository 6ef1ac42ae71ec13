#!/usr/bin/env bash
# Ordinary TLS clients of `millrace demo --https` (tls-clients.sh). No root, no NIC. clients.sh has the same for an edge on a
# TAP device.
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
passed=0 failed=0 skipped=0 demo=
finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$demo" ]; then kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; fi
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
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
