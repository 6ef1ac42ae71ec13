#!/usr/bin/env bash
# Instructions per request (bulk: per segment sent; syn: per SYN answered by a cookie), counted by callgrind over fixed
# work: figures that repeat on any machine, where
# nanoseconds do not. Prints them beside those kept in benches/baseline.txt.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/callgrind.sh [--check] [--save] [NAME...]

  (nothing)    count, and print the difference to benches/baseline.txt
  --check      exit 1 when a count is more than 2 % above the baseline
  --save       write the counts to benches/baseline.txt
  NAME         only these of: tcp bulk syn stub cached proxied head

Profiles are left in target/callgrind/NAME.out, for callgrind_annotate.
END
}

REQUESTS=6400
LIMIT_PERCENT=2
BASELINE=benches/baseline.txt
check=false save=false names=()
for arg in "$@"; do
    case "$arg" in
    --check) check=true ;;
    --save) save=true ;;
    -h | --help) usage; exit 0 ;;
    tcp | bulk | syn | stub | cached | proxied | head) names+=("$arg") ;;
    *) usage >&2; exit 2 ;;
    esac
done
[ ${#names[@]} -gt 0 ] || names=(tcp bulk syn stub cached proxied head)
have valgrind || die "valgrind is not installed: apt-get install valgrind"

target=${CARGO_TARGET_DIR:-$ROOT/target}
out=$target/callgrind
mkdir -p "$out"
program=$(built counted)

count() {
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect='counted::measured_*' \
        --callgrind-out-file="$out/$1.out" "$program" "$1" "$REQUESTS" 2>"$out/$1.log" ||
        die "counting $1 failed: $(tail -n 3 "$out/$1.log")"
    awk -v n="$REQUESTS" '/Collected/ { printf "%.1f\n", $NF / n }' "$out/$1.log"
}

result=$(mktemp)
trap 'rm -f "$result"' EXIT
worse=0
printf '%-10s %14s %14s %9s\n' work instructions baseline change
for name in "${names[@]}"; do
    now=$(count "$name")
    before=$(awk -v n="$name" '$1 == n { print $2 }' "$BASELINE" 2>/dev/null || true)
    change=-
    if [ -n "$before" ]; then
        change=$(awk -v a="$before" -v b="$now" 'BEGIN { printf "%+.2f%%", (b - a) * 100 / a }')
        if awk -v a="$before" -v b="$now" -v l="$LIMIT_PERCENT" 'BEGIN { exit !(b > a * (1 + l / 100)) }'; then
            worse=1
        fi
    fi
    printf '%-10s %14s %14s %9s\n' "$name" "$now" "${before:--}" "$change"
    printf '%s %s\n' "$name" "$now" >>"$result"
done

if $save; then
    {
        echo "# Instructions per request by scripts/bench/callgrind.sh (--save writes this file)."
        echo "# $(rustc --version), $(valgrind --version), $REQUESTS requests each, 256 connections, bursts of 64."
        for name in tcp bulk syn stub cached proxied head; do
            awk -v n="$name" '$1 == n { f = 1; print } END { exit !f }' "$result" ||
                awk -v n="$name" '$1 == n' "$BASELINE"
        done
    } >"$BASELINE.new"
    mv "$BASELINE.new" "$BASELINE"
fi
if $check && [ "$worse" -ne 0 ]; then
    die "more than $LIMIT_PERCENT % above $BASELINE"
fi
