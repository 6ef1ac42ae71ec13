#!/usr/bin/env bash
# The cache store's tests under AddressSanitizer. Free chunks are poisoned (--cfg asan), so that a read of memory
# that has gone back to the pool is caught at once. MILLRACE_STRESS_TURNS=N makes the threads work longer.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/asan
# The sanitizer's runtime comes with the stable toolchain too, but not the permission to ask for it.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target
export RUSTFLAGS="-Zsanitizer=address --cfg asan"
exec cargo test --locked -p l7 --target "$host" --lib cache::store "$@"
