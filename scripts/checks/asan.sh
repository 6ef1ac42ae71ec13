#!/usr/bin/env bash
# The node under AddressSanitizer: the cache store's own tests, configs swapped and everything purged on two threads
# while objects are evicted, the caching tests, cores on threads, and some of the simulator's seeds. Free chunks of the
# store are poisoned (--cfg asan), so that a read of memory that has gone back to the pool is caught at once.
#
# usage: scripts/checks/asan.sh [build|store|node|swaps]     all by default; CI runs the store's, the rest takes minutes
# MILLRACE_STRESS_TURNS=N makes the store's threads work longer, MILLRACE_SIM_SEEDS=N (20) is for the simulator.
# Built without DPDK, which none of these uses. tests/no_alloc.rs is not among them: it replaces malloc, as the sanitizer does.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/asan
# The sanitizer's runtime comes with the stable toolchain too, but not the permission to ask for it.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target
export RUSTFLAGS="-Zsanitizer=address --cfg asan"
export MILLRACE_SIM_SEEDS=${MILLRACE_SIM_SEEDS:-20}

what=${1:-all}
node=(--test rig --test cache --test sim)
# The store without the rest of its crate, which it does not need: TLS and its C code take minutes to build.
store=(--manifest-path l7/asan/Cargo.toml --target "$host" --lib)
case "$what" in
build)
    cargo test --locked "${store[@]}" --no-run
    cargo test --locked --no-default-features --target "$host" "${node[@]}" --test swaps --no-run
    ;;
all | store | node | swaps) ;;
*) die "usage: scripts/checks/asan.sh [build|store|node|swaps]" ;;
esac
if [ "$what" = all ] || [ "$what" = store ]; then
    cargo test --locked "${store[@]}"
fi
if [ "$what" = all ] || [ "$what" = node ]; then
    cargo test --locked --no-default-features --target "$host" "${node[@]}"
fi
if [ "$what" = all ] || [ "$what" = swaps ]; then
    cargo test --locked --no-default-features --target "$host" --test swaps
fi
