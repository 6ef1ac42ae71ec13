#!/usr/bin/env bash
# The shared protocols (epochs, pins, growth, what threads give back) under loom: all interleavings of small models with up to three
# preemptions, or MILLRACE_LOOM_PREEMPTIONS. Options go to the tests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/loom
cd dataplane/loom
# Release: a model is run some 100,000 times. Assertions stay on: they are part of it.
CARGO_TARGET_DIR=$target RUSTFLAGS="--cfg loom -C debug-assertions=on" \
    cargo test --locked --release --test models -- "$@"
