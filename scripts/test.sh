#!/usr/bin/env bash
# All checks and tests, as CI runs them. The last line is `N passed, N failed` (`, N skipped` may follow); every
# step (fmt, clippy, …) counts as one test. Exit code 1 when anything failed.
#
# Knobs (all have defaults):
#   MILLRACE_SIM_SEEDS=200   seeds that the simulator runs
#   CARGO_TARGET_DIR         where to build; logs of the steps are in its test-logs/
# A test that needs root (the namespaces) or a tool that is not there skips itself and says why: it appends a line,
# `TEST_NAME reason`, to the file that MILLRACE_TEST_SKIPS names. The runners would call it passed without a word.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    echo "usage: scripts/test.sh [--quick]     --quick leaves out clippy, the docs and scripts/checks"
}

quick=false
for arg in "$@"; do
    case "$arg" in
    --quick) quick=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

passed=0 failed=0 skipped=0
logs=${CARGO_TARGET_DIR:-target}/test-logs
mkdir -p "$logs" || die "cannot write to $logs"
logs=$(cd "$logs" && pwd)

export MILLRACE_SIM_SEEDS=${MILLRACE_SIM_SEEDS:-200}
export MILLRACE_TEST_SKIPS=$logs/skips
: >"$MILLRACE_TEST_SKIPS"

finish() {
    echo
    if [ -s "$MILLRACE_TEST_SKIPS" ]; then
        echo "skipped themselves:"
        sort -u "$MILLRACE_TEST_SKIPS" | sed 's/^/  /'
        local by_themselves
        by_themselves=$(awk '{ print $1 }' "$MILLRACE_TEST_SKIPS" | sort -u | wc -l)
        passed=$((passed - by_themselves)) skipped=$((skipped + by_themselves))
    fi
    local line="$passed passed, $failed failed"
    if [ "$skipped" -gt 0 ]; then line="$line, $skipped skipped"; fi
    echo "$line"
    [ "$failed" = 0 ]
    exit
}

# step NAME COMMAND…: one test; its output is shown when it fails, and is always in the logs.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '%-10s ' "$name"
    if "$@" >"$logs/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok      $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        echo "FAILED  $((SECONDS - start)) s: $*"
        sed 's/^/    /' "$logs/$name.log"
        return 1
    fi
}

# tests NAME COUNT COMMAND…: a test runner, shown as it runs; COUNT reads its log and adds to the sums.
tests() {
    local name=$1 count=$2 start=$SECONDS status failed_before=$failed
    shift 2
    echo "$name: $*"
    "$@" 2>&1 </dev/null | tee "$logs/$name.log"
    status=${PIPESTATUS[0]}
    "$count" "$logs/$name.log"
    # A runner that failed without naming a test (it crashed, or could not build) is a failed test itself.
    if [ "$status" != 0 ] && [ "$failed" = "$failed_before" ]; then failed=$((failed + 1)); fi
    local word=ok
    if [ "$failed" != "$failed_before" ]; then word=FAILED; fi
    printf '%-10s %-7s %s s\n' "$name" "$word" "$((SECONDS - start))"
}

# The number before a word in a line; 0 when the word is not there.
number_before() {
    local n
    n=$(grep -oE "[0-9]+ $2([^a-z]|\$)" <<<"$1" | head -n 1 | grep -oE '^[0-9]+')
    echo "${n:-0}"
}

# Summary [   5.4s] 120 tests run: 116 passed (1 slow), 2 failed, 1 timed out, 1 exec failed, 3 skipped
count_nextest() {
    local line
    line=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E '^ *Summary \[' | tail -n 1)
    passed=$((passed + $(number_before "$line" passed)))
    failed=$((failed + $(number_before "$line" failed)))
    failed=$((failed + $(number_before "$line" 'timed out') + $(number_before "$line" 'exec failed')))
    skipped=$((skipped + $(number_before "$line" skipped)))
}

# test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s
count_cargo_test() {
    local p f s
    read -r p f s < <(sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) p += $(i - 1)
                if ($i ~ /^failed/) f += $(i - 1)
                if ($i ~ /^ignored/) s += $(i - 1)
            }
        }
        END { print p + 0, f + 0, s + 0 }')
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# Every script parses; ShellCheck, where there is one, finds nothing; those in Python do what their tests say.
check_scripts() {
    local files=() file ok=0
    while IFS= read -r file; do
        # Staged for deletion, or not a shell script.
        if [ -f "$file" ] && head -n 2 "$file" | grep -qE '^#!.*\b(ba)?sh$|shellcheck shell='; then files+=("$file"); fi
    done < <(git ls-files --cached --others --exclude-standard scripts .ci tests)
    for file in "${files[@]}"; do bash -n "$file" || ok=1; done
    if have shellcheck; then
        shellcheck --severity=warning -x -P SCRIPTDIR "${files[@]}" || ok=1
    else
        echo "shellcheck is not installed: only parsed"
    fi
    if have python3; then
        python3 -B -m unittest -q scripts/bench/test_report.py scripts/bench/test_goodput.py || ok=1
        python3 -B -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' scripts/bench/*.py scripts/bench/*/*.py scripts/bench/goodput || ok=1
    else
        echo "python3 is not installed: scripts/bench/*.py are not tested"
    fi
    return "$ok"
}

# The model checker is a crate that nothing else needs, with a lock file of its own.
check_loom() {
    if ! cargo fetch --locked --manifest-path dataplane/loom/Cargo.toml; then
        echo "loom its crates cannot be had" >>"$MILLRACE_TEST_SKIPS"
        return 0
    fi
    scripts/checks/loom.sh
}

# Instructions of fixed work against those kept in benches/baseline.txt: more than 2 % above them is a failure.
check_counts() {
    if ! have valgrind; then
        echo "counts valgrind is not installed" >>"$MILLRACE_TEST_SKIPS"
        return 0
    fi
    scripts/bench/callgrind.sh --check
}

check_asan() {
    if ! echo 'fn main() {}' | RUSTC_BOOTSTRAP=1 rustc -Zsanitizer=address -o "$logs/asan-probe" - ||
        ! "$logs/asan-probe"; then
        echo "asan this toolchain has no AddressSanitizer" >>"$MILLRACE_TEST_SKIPS"
        return 0
    fi
    # The node's part builds everything once more: 10 minutes, by hand.
    scripts/checks/asan.sh store
}

echo "setup"
if scripts/setup.sh; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    finish
fi

step scripts check_scripts
step deps scripts/check-deps.sh
step fmt cargo fmt --all --check

# Built with DPDK, as is the default, where that can be.
all=(--locked --workspace)
reason=$(no_dpdk)
if [ -n "$reason" ]; then
    echo "DPDK $reason: all is built with --no-default-features, and ports of kind \"dpdk\" are not tested"
    echo "dpdk $reason" >>"$MILLRACE_TEST_SKIPS"
    # It is taken from those that passed, like a test that skipped itself.
    passed=$((passed + 1))
    all+=(--no-default-features)
elif ! $quick; then
    step no-dpdk cargo clippy --locked -p millrace --no-default-features --lib --bins --test check -- -D warnings
fi
$quick || step clippy cargo clippy "${all[@]}" --all-targets -- -D warnings

# Built on its own, so that its time is seen, and an error that stops everything is one failure.
if cargo nextest --version >/dev/null 2>&1; then
    if step build cargo nextest run "${all[@]}" --no-run; then
        tests nextest count_nextest cargo nextest run "${all[@]}" --no-fail-fast --no-tests=pass --color never
    fi
    $quick || tests doctests count_cargo_test cargo test "${all[@]}" --doc --no-fail-fast --color never
else
    if step build cargo test "${all[@]}" --lib --bins --tests --examples --no-run; then
        tests tests count_cargo_test \
            cargo test "${all[@]}" --lib --bins --tests --examples --no-fail-fast --color never
    fi
    $quick || tests doctests count_cargo_test cargo test "${all[@]}" --doc --no-fail-fast --color never
fi

$quick || RUSTDOCFLAGS="-D warnings" step doc cargo doc "${all[@]}" --no-deps
$quick || step counts check_counts
$quick || step loom check_loom
$quick || step asan check_asan
finish
