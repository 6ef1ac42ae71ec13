#!/usr/bin/env bash
# Ordinary clients of a node on a TAP device, with nginx as the origin: curl and wget, over both families, 200 MB down and
# up, beside each other and over a bad path, and Chromium, where it is installed; by TLS too, with openssl s_client besides
# (tls-clients.sh). What comes is compared with what was sent.
# tests/e2e has the same for curl, in more detail; this is the look at programs that are not on every machine.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/checks/tls-clients.sh

keep='' only_tls=false
while [ $# -gt 0 ]; do
    case "$1" in
    --keep) keep=$(realpath -e "${2:?a folder}"); shift ;;
    --tls) only_tls=true ;;
    *)
        echo "usage: sudo scripts/checks/clients.sh [--tls] [--keep DIR]"
        echo "  (the node: target/release/millrace, or MILLRACE; --tls: that alone; DIR gets Chromium's picture)"
        [ "$1" = -h ] || [ "$1" = --help ]
        exit
        ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || die "namespaces and TAP devices need root: sudo $0"
millrace=${MILLRACE:-${CARGO_TARGET_DIR:-target}/release/millrace}
prefix=cl
client=$prefix-client www=/var/lib/millrace-lab/$prefix/www
passed=0 failed=0 skipped=0 dir=$(mktemp -d /tmp/millrace-clients.XXXXXX)
finish() {
    local code=$?
    trap - EXIT INT TERM
    scripts/lab/lab --prefix $prefix down >"$dir/down" 2>&1 || true
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND…: in the client's namespace, in a shell with pipefail.
check() {
    local name=$1 began=$SECONDS
    shift
    if ip netns exec $client timeout 120 bash -o pipefail -c "$*" >"$dir/out" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %-72s %3s s\n' "$name" $((SECONDS - began))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-72s %s\n' "$name" "$(tail -n 3 "$dir/out")"
    fi
}

skip() {
    skipped=$((skipped + 1))
    echo "skip  $1"
}

sum_of() {
    cut -d ' ' -f 1 < <(grep "  $1\$" "$www/SHA256SUMS")
}

by_tls() {
    local ca=$dir/cert.pem sum family at
    "$millrace" cert self-signed any.lab v6.lab 10.80.0.1 fd80::1 --out "$dir" >/dev/null
    sed -e '/^http = 80$/a https = 443' -e '/^origin = "http:\/\/10/a certificate = { chain = "cert.pem", key = "key.pem" }' \
        scripts/lab/edge.toml >"$dir/edge.toml"
    "$millrace" check "$dir/edge.toml" >/dev/null
    scripts/lab/lab --prefix $prefix up --program "$millrace" --config "$dir/edge.toml" >"$dir/up"
    tls_clients tls "$dir" 10.80.0.1 443 any.lab https://10.80.0.1/ "$ca" 'millrace lab origin' "$keep"
    sum=$(sum_of 200m)
    local curl="curl -gfsS --cacert $ca"
    for family in v4 v6; do
        if [ $family = v4 ]; then at=10.80.0.1; else at='[fd80::1]'; fi
        check "tls: curl, 200 MB down, $family" "$curl https://$at/200m | sha256sum | grep -q $sum"
        check "tls: curl, 200 MB up, $family" "$curl -T $www/200m https://$at/upload/t$family && cmp $www/200m $www/upload/t$family"
    done
    check "tls: 200 MB both ways at once" "
        $curl -T $www/200m https://10.80.0.1/upload/tboth & up=\$!
        $curl https://10.80.0.1/200m | sha256sum | grep -q $sum && wait \$up && cmp $www/200m $www/upload/tboth"
    scripts/lab/lab --prefix $prefix down >"$dir/down"
}

traffic() { # WHERE
    local where=$1 family host name sum
    for family in v4 v6; do
        if [ $family = v4 ]; then host=10.80.0.1 name=any.lab; else host='[fd80::1]' name=v6.lab; fi
        sum=$(sum_of 200m)
        check "$where: curl, 200 MB down, $family" "curl -gfsS -H 'Host: $name' http://$host/200m | sha256sum | grep -q $sum"
        check "$where: curl, 200 MB up, $family" "curl -gfsS -H 'Host: $name' -T $www/200m http://$host/upload/c$family && cmp $www/200m $www/upload/c$family"
        if have wget; then
            check "$where: wget, 200 MB down, $family" "wget -q --header 'Host: $name' -O - 'http://$host/200m' | sha256sum | grep -q $sum"
            check "$where: wget, the rest of a file, $family" "head -c 1000 $www/1m >$dir/part && wget -q -c --header 'Host: $name' -O $dir/part 'http://$host/1m' && cmp $www/1m $dir/part"
        fi
    done
    check "$where: 200 MB both ways at once" "
        curl -fsS -T $www/200m http://10.80.0.1/upload/both & up=\$!
        curl -fsS http://10.80.0.1/200m | sha256sum | grep -q $sum && wait \$up && cmp $www/200m $www/upload/both"
}

by_tls
if $only_tls; then
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
fi
scripts/lab/lab --prefix $prefix up --program "$millrace" >"$dir/up"
traffic "tap"
if have chromium; then
    check "tap: chromium shows a page" "chromium --headless --no-sandbox --disable-gpu --user-data-dir=$dir/chromium --virtual-time-budget=5000 --dump-dom http://10.80.0.1/ | grep -q 'millrace lab origin'"
else
    skip "tap: chromium is not installed"
fi
scripts/lab/lab --prefix $prefix down >"$dir/down"

# 200 Mbit/s, 10 ms, a shallow queue, loss: slower, and whole.
scripts/lab/lab --prefix $prefix up --program "$millrace" --shim-client "delay 5ms rate 200mbit limit 20ms loss 0.05%" >"$dir/up"
beginning=$(head -c 20000000 "$www/200m" | sha256sum | cut -d ' ' -f 1)
check "bad path: curl, 20 MB down" "curl -fsS -r 0-19999999 http://10.80.0.1/200m | sha256sum | grep -q $beginning"
head -c 20000000 "$www/200m" >"$dir/20m"
check "bad path: curl, 20 MB up" "curl -fsS -T $dir/20m http://10.80.0.1/upload/bad && cmp $dir/20m $www/upload/bad"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
