# shellcheck shell=bash
# Sourced by the scripts beside it, after lib.sh.

# built NAME FLAGS…: builds a bench, and prints the path of its program.
built() {
    local name=$1 package=millrace program
    shift
    if [ "$name" = counted ]; then package=millrace-counted; fi
    program=$(cargo build -q --release -p "$package" --bench "$name" --message-format=json "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | grep "/$name-" | tail -n 1)
    [ -x "$program" ] || die "the bench '$name' was not built"
    printf '%s\n' "$program"
}
