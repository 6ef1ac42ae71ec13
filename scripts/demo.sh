#!/usr/bin/env bash
# Builds Millrace and starts the demo: no root, no NIC, no config. Arguments go to `millrace demo`:
#   scripts/demo.sh --listen 127.0.0.1:9090
#   scripts/demo.sh --origin http://127.0.0.1:3000
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/setup.sh --minimal
features=()
# The demo has no use for it, but what is built here is used for more.
reason=$(no_dpdk)
if [ -n "$reason" ]; then
    echo "demo: building without ports of kind \"dpdk\" (--no-default-features): DPDK $reason" >&2
    features=(--no-default-features)
fi
cargo build --release --locked --bin millrace "${features[@]}"
# Cargo knows best where it builds (CARGO_TARGET_DIR, or a config file of the user's).
target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
exec "$target/release/millrace" demo "$@"
