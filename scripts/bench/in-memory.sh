#!/usr/bin/env bash
# Runs all in-memory benches and prints their tables: the figures of docs/bench.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. scripts/bench/build.sh

usage() {
    cat <<'END'
usage: scripts/bench/in-memory.sh [--quick] [--no-callgrind]

  --quick          3 rounds of fewer requests, to see that it works
  --no-callgrind   no instruction counts
END
}

args=(--rounds 9) callgrind=true
for arg in "$@"; do
    case "$arg" in
    --quick) args=(--rounds 3 --requests 20000) ;;
    --no-callgrind) callgrind=false ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

tcp=$(built tcp)
node=$(built node)
pktgen=$(built pktgen)

echo "date     $(date -u +%F)"
echo "commit   $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo "rustc    $(rustc --version)"
echo "load     $(cut -d ' ' -f 1-3 /proc/loadavg) before the run"
"$tcp" "${args[@]}"
"$node" "${args[@]}"
"$pktgen" "${args[@]}"
if $callgrind; then
    echo
    echo "instructions per request"
    scripts/bench/callgrind.sh
fi
