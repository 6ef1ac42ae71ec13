#!/usr/bin/env bash
# How many instructions a pass of the loop takes, with and without handshakes beside it: what benches/node.rs times
# (`--only passes`), counted by callgrind pass by pass, so that nobody's interruptions are in it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/passes.sh [--requests N]

A core in memory, 64 requests for a cached 1 KiB object in each burst, by TLS 1.3 over 256 connections; alone, and beside
64 strangers at a time who shake hands with the node, whose certificate is signed by RSA with 2048 bits, with 4096, and by
ECDSA. A helper thread signs by RSA; its instructions are not the core's, and not counted. Needs valgrind and openssl, and
builds what it runs. About ten minutes.

  --requests N     12800 (200 bursts)
END
}

requests=12800
while [ $# -gt 0 ]; do
    case "$1" in
    --requests) requests=${2-}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ $requests =~ ^[1-9][0-9]{2,5}$ ]] || { usage >&2; exit 2; }
have valgrind || die "valgrind is not installed: apt-get install valgrind"
have openssl || die "openssl is not installed: apt-get install openssl"

program=$(built counted)
work=$(mktemp -d /tmp/millrace-passes.XXXXXX)
trap 'rm -rf "$work"' EXIT
for bits in 2048 4096; do
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:$bits -out "$work/rsa-$bits" 2>/dev/null
done
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$work/ecdsa" 2>/dev/null

count() { # NAME [KEY]: passes, median, p99, longest, handshakes
    local name=$1
    shift
    mkdir "$work/$name.dumps"
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect='counted::measured_*' \
        --dump-before='counted::measured_core' --compress-strings=yes --callgrind-out-file="$work/$name.dumps/out" \
        "$program" passes "$requests" "$@" 2>"$work/$name.log" || die "$name failed: $(tail -n 3 "$work/$name.log")"
    # Each dump is of one pass; the first is of what came before: nothing. (--dump-after leaves none here.)
    awk '/^(totals|summary):/ { if ($2 > most[FILENAME]) most[FILENAME] = $2 } END { for (f in most) if (most[f] > 0) print most[f] }' \
        "$work/$name.dumps"/out* | sort -n >"$work/$name.counts"
    rm -r "$work/$name.dumps"
    awk -v h="$(sed -n 's/^handshakes //p' "$work/$name.log")" '{ v[NR] = $1 }
        END { print NR, v[int((NR + 1) / 2)], v[int(NR * 0.99 + 0.5)], v[NR], h }' "$work/$name.counts"
}

printf '%-12s %8s %12s %12s %12s %8s %12s\n' instructions passes p50 p99 longest ratio handshakes
alone=''
for name in alone rsa-2048 rsa-4096 ecdsa; do
    key=()
    if [ $name != alone ]; then key=("$work/$name"); fi
    read -r passes p50 p99 longest handshakes <<<"$(count $name ${key[@]+"${key[@]}"})"
    alone=${alone:-$longest}
    printf '%-12s %8s %12s %12s %12s %8s %12s\n' $name "$passes" "$p50" "$p99" "$longest" \
        "$(awk -v a="$alone" -v b="$longest" 'BEGIN { printf "%.3f", b / a }')" "$handshakes"
done
