#!/usr/bin/env bash
# A thousand clients of one cold object of 10 MB, on two cores, in all the ways that it can go: tests/cache/crowd.rs at
# its full size, with optimised code. CI runs the same with a smaller object. Options go to the tests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Assertions stay on. Without LTO: it would take longer to build than to run.
export MILLRACE_COLLAPSE=full CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/checks
export CARGO_TARGET_DIR
# One after the other: each has a store, and a thousand connections, of its own.
exec cargo test --locked --release --test cache -- crowd --test-threads=1 --nocapture "$@"
