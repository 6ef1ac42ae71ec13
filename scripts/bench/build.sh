# shellcheck shell=bash
# Sourced by the scripts beside it, after lib.sh.

# Builds the bench $1, and prints the path of its program.
built() {
    local program
    program=$(cargo build -q --release -p millrace --bench "$1" --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep "/$1-" | tail -n 1)
    [ -x "$program" ] || die "the bench '$1' was not built"
    printf '%s\n' "$program"
}
