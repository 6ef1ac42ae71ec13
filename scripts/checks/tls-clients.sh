# shellcheck shell=bash
# Ordinary TLS clients of one server: curl, wget, openssl s_client (1.2, 1.3, resumption, KeyUpdate, a name that nobody has,
# no name, no ALPN), and Chromium, where it is installed. Sourced by the scripts beside it, after lib.sh, which have `check
# NAME COMMAND…` (a shell with pipefail: so nobody leaves off reading before the end) and `skip WHY`.
#
#   DIR            a folder for what comes
#   IP PORT HOST   where the server is, and a name that its certificate is for
#   BY_IP          what wget and Chromium ask, who find no names here: a URL that the certificate is for as well
#   CA             that certificate, signed by itself
#   WORD           what the page says
#   KEEP           where the picture of the page stays; empty: nowhere
tls_clients() { # WHERE DIR IP PORT HOST BY_IP CA WORD KEEP
    local where=$1 dir=$2 ip=$3 port=$4 host=$5 by_ip=$6 ca=$7 word=$8 keep=$9
    local v suite shake get url at curl shown pin picture
    at=$ip:$port url=https://$host:$port/
    curl="curl -fsS --cacert $ca --resolve $host:$port:$ip"
    shake="openssl s_client -connect $at -servername $host -CAfile $ca -verify_return_error -ign_eof"
    pin=$(openssl x509 -in "$ca" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64)
    get="printf 'GET / HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n'"

    check "$where: curl, TLS 1.3" "$curl --tlsv1.3 $url -o $dir/page && grep -q '$word' $dir/page"
    check "$where: curl, TLS 1.2, the same page" "$curl --tls-max 1.2 $url | cmp - $dir/page"
    check "$where: curl, two requests on one connection" "$curl -v $url $url -o /dev/null -o /dev/null 2>&1 | grep -ci 're-using\|reusing'"
    check "$where: curl does not believe a stranger's certificate" "! curl -fsS --resolve $host:$port:$ip $url -o /dev/null"
    check "$where: curl, plain HTTP on the TLS port: refused" "! curl -fsS http://$at/ -o /dev/null"
    # wget finds no addresses in certificates.
    check "$where: wget, by the key" "wget -q --no-check-certificate --pinnedpubkey=sha256//$pin -O - $by_ip | grep -c '$word'"
    check "$where: wget, by another key: refused" "! wget -q --no-check-certificate --pinnedpubkey=sha256//${pin//[A-Z]/x} -O - $by_ip"
    for v in 1_2 1_3; do
        check "$where: openssl, TLS $v" "($get) | $shake -tls$v -quiet 2>/dev/null | grep -c '200 OK'"
        check "$where: openssl, TLS $v, resumed" "
            ($get) | $shake -tls$v -sess_out $dir/session$v >/dev/null 2>&1
            ($get) | $shake -tls$v -sess_in $dir/session$v 2>/dev/null | grep -c '^Reused, '"
    done
    for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
        check "$where: openssl, $suite" "($get) | $shake -ciphersuites $suite 2>/dev/null | grep -c 'Cipher is $suite'"
    done
    check "$where: openssl, KeyUpdate both ways between two requests" "
        (printf 'GET / HTTP/1.1\nHost: $host\n\n'; sleep 2; echo K; sleep 1
            printf 'GET / HTTP/1.1\nHost: $host\nConnection: close\n\n'; sleep 2) |
            ${shake% -ign_eof} -crlf 2>/dev/null | grep -c '^HTTP/1.1 200 OK' | grep -qx 2"
    check "$where: openssl, a name that nobody has: the default certificate" "($get) | openssl s_client -connect $at -servername nobody.invalid -CAfile $ca -ign_eof 2>/dev/null | grep -c 'BEGIN CERTIFICATE'"
    check "$where: openssl, no name at all" "($get) | openssl s_client -connect $at -noservername -ign_eof 2>/dev/null | grep -c '200 OK'"
    check "$where: openssl, no ALPN" "($get) | $shake 2>/dev/null | grep -c 'No ALPN negotiated'"
    check "$where: openssl, ALPN http/1.1" "($get) | $shake -alpn http/1.1 2>/dev/null | grep -c 'ALPN protocol: http/1.1'"
    check "$where: openssl asks for an OCSP response, and there is none" "($get) | $shake -status 2>/dev/null | grep -c 'OCSP response: no response sent'"
    check "$where: openssl, TLS 1.1: refused" "! ($get) | $shake -tls1_1 -cipher ALL@SECLEVEL=0 2>/dev/null | grep -c '200 OK'"
    check "$where: garbage instead of a handshake: an alert" "
        exec 3<>/dev/tcp/$ip/$port; head -c 300 /dev/zero >&3; timeout 5 cat <&3 | od -An -tx1 | grep -c '15 03'"
    if ! have chromium; then
        skip "$where: chromium is not installed"
        return
    fi
    # Only this key is excused from having an issuer.
    picture=${keep:-$dir}/$where.png
    shown="chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1000 --user-data-dir=$dir/chromium --ignore-certificate-errors-spki-list=$pin --virtual-time-budget=5000"
    check "$where: chromium shows the page" "$shown --dump-dom $by_ip | grep -c '$word'"
    check "$where: chromium's picture of it" "$shown --screenshot=$picture $by_ip && [ \$(stat -c %s $picture) -gt 5000 ]"
    [ -z "$keep" ] || echo "      $picture"
    check "$where: chromium does not believe a stranger's certificate" "! chromium --headless --no-sandbox --disable-gpu --user-data-dir=$dir/chromium2 --virtual-time-budget=5000 --dump-dom $by_ip | grep -c '$word'"
}
