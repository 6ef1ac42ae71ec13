#!/usr/bin/env bash
# Licences and sources of every dependency: with cargo-deny by deny.toml where it is installed, else the same two
# questions put to `cargo metadata`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if cargo deny --version >/dev/null 2>&1; then
    exec cargo deny --offline --locked check bans licenses sources
fi

# What is built: the lock file also has what features of others would need that nobody turns on.
used=$(cargo tree --locked --workspace --all-features --target all -e all --prefix none --format '{p}' |
    sed -E 's/^([^ ]+) v([^ ]+).*/\1 \2/' | sort -u)
allowed='Apache-2.0|Apache-2.0 WITH LLVM-exception|MIT|0BSD|BSD-3-Clause|ISC|Unlicense|Unicode-3.0'
cargo metadata --format-version 1 --locked |
    jq -r --arg allowed "$allowed" --arg used "$used" '
        # One side of an OR is enough; both sides of an AND are needed.
        def fine: . as $l | ($allowed | split("|")) as $a
            | ($l | gsub("[()]"; "") | gsub(" */ *"; " OR ")) as $l
            | [$l | split(" AND ")[] | [split(" OR ")[] | . as $one | $a | index($one) != null] | any] | all;
        ($used | split("\n")) as $built
        | .packages[]
        | select("\(.name) \(.version)" as $p | $built | index($p) != null)
        | select((.license // "none" | fine | not)
            or (.source != null and (.source | startswith("registry+https://github.com/rust-lang/crates.io-index") | not)))
        | "\(.name) \(.version): licence \(.license // "none"), source \(.source // "path")"' |
    if grep .; then exit 1; fi
echo "every dependency has an allowed licence and comes from crates.io"
