#!/usr/bin/env bash
# Fuzzing in bulk: so many million segments at the TCP engine (stack/src/harness/storm), with every overflow and assertion
# looked at. In chunks of 100 seeds, 20 million segments each, so that a run that was stopped goes on where it was.
#
# usage: scripts/checks/storm.sh MILLIONS [FROM_SEED]
# MILLRACE_STORM_LOG=FILE  what the chunks came to, a line each (storm.log in the target directory); those that are in
#                          it are not run again
# A seed that fails is named, with how to run it alone: it gives the same segments each time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

chunk=100 each=200000
[ $# -ge 1 ] || die "usage: scripts/checks/storm.sh MILLIONS [FROM_SEED]"
millions=$1 from=${2:-0}
log=${MILLRACE_STORM_LOG:-${CARGO_TARGET_DIR:-target}/storm.log}
export MILLRACE_FUZZ_RUNS=$chunk MILLRACE_FUZZ_FRAMES=$each

test=$(cargo test --locked --profile fuzz -p stack --lib --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ -x "$test" ] || die "no test program was built"
# Of its own, so that the next build does not change it under a long run.
mine=$(mktemp -d)
trap 'rm -rf "$mine"' EXIT
cp "$test" "$mine/storm"

done=0
for ((seed = from; done < millions; seed += chunk)); do
    if ! grep -qs "^ok seeds $seed\.\." "$log"; then
        if ! MILLRACE_FUZZ_FROM=$seed "$mine/storm" a_storm_of_segments --nocapture >"$mine/out" 2>&1; then
            cat "$mine/out"
            echo "FAILED seeds $seed..$((seed + chunk))" | tee -a "$log"
            echo "run one alone: MILLRACE_FUZZ_FRAMES=$each MILLRACE_FUZZ_FROM=SEED MILLRACE_FUZZ_RUNS=1 cargo test --profile fuzz -p stack --lib a_storm -- --nocapture"
            exit 1
        fi
        echo "ok seeds $seed..$((seed + chunk)): $(grep ' a second' "$mine/out" | tail -n 1), $(date -u +%FT%TZ)" | tee -a "$log"
    fi
    done=$((done + chunk * each / 1000000))
done
awk '/^ok seeds/ { for (i = 1; i < NF; i++) if ($(i + 1) == "frames") n += $i } END { print n, "segments in all, none failed" }' "$log"
