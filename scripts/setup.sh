#!/usr/bin/env bash
# Installs what building, testing and trying Millrace needs and apt can give: only what is missing, and nothing
# when all is there. The Rust toolchain is looked for, never installed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'END'
usage: scripts/setup.sh [--check] [--minimal] [--browser]

  (nothing)    install what is missing, for building, all tests and the lab
  --check      only report; exit 1 when something is missing
  --minimal    only what the demo needs, and building without DPDK (cargo build --no-default-features)
  --browser    also Chromium, for looking at the demo's page without a screen

Exit code: 0 when the necessary things (a C compiler, Rust) are there in the end, even if some that only single
tests need are not; else 1.
END
}

RUST_MIN=1.95.0
check=false minimal=false browser=false
for arg in "$@"; do
    case "$arg" in
    --check) check=true ;;
    --minimal) minimal=true ;;
    --browser) browser=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

say() {
    printf 'setup: %s\n' "$*"
}

# program → Debian package → what it is for; pc:NAME is a library that pkg-config knows, so:NAME one that is loaded
wanted() {
    echo "cc build-essential linking"
    $minimal && return
    cat <<'END'
pkg-config pkg-config finding C libraries
curl curl an HTTP client for tests
ip iproute2 the namespace lab
ping iputils-ping the namespace lab
tcpdump tcpdump looking at frames
ethtool ethtool offloads in the namespace lab
nginx nginx-light the origin in the namespace lab
wrk wrk load for tests and benches
valgrind valgrind instruction counts of the benches
jq jq reading --json output in tests
openssl openssl test data, checksums, certificates
pebble pebble an ACME server for tests
pc:libdpdk libdpdk-dev the dpdk port; else build with --no-default-features
so:libclang libclang-dev bindings to DPDK
END
    if $browser; then echo "chromium chromium looking at the demo's page"; fi
}

missing_packages() {
    local program package rest
    while read -r program package rest; do
        is_there "$program" || echo "$package"
    done < <(wanted)
}

is_there() {
    case "$1" in
    pc:*) have pkg-config && pkg-config --exists "${1#pc:}" ;;
    so:*) compgen -G "/usr/lib/llvm-*/lib/${1#so:}*.so*" >/dev/null || compgen -G "/usr/lib/*/${1#so:}*.so*" >/dev/null ;;
    *) have "$1" ;;
    esac
}

# --- Rust ---------------------------------------------------------------------------------------------------

rust_mend() {
    cat >&2 <<END
setup: install or update Rust with rustup, as your own user:
         curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- --profile minimal -c rustfmt -c clippy
         . "\$HOME/.cargo/env"
       or, where rustup is there already:  rustup update stable
       Debian 12's own rustc (1.63) is too old; Debian 13 has rustup in apt: apt-get install rustup
END
}

rust_ok() {
    if ! have cargo || ! have rustc; then
        say "missing: Rust (cargo, rustc) $RUST_MIN or newer" >&2
        rust_mend
        return 1
    fi
    local version
    version=$(rustc --version 2>/dev/null | awk '{print $2}') || version=
    version=${version%%-*}
    if [ "$(printf '%s\n%s\n' "$RUST_MIN" "${version:-0}" | sort -V | head -n 1)" != "$RUST_MIN" ]; then
        say "rustc ${version:-that does not start} is too old: $RUST_MIN or newer is needed" >&2
        rust_mend
        return 1
    fi
    $minimal && return 0
    local part
    for part in rustfmt clippy; do
        if ! cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1; then
            say "missing: $part; install it with: rustup component add $part" >&2
            return 1
        fi
    done
}

# --- apt ----------------------------------------------------------------------------------------------------

GUARD=/usr/sbin/policy-rc.d
MARK="Put here by Millrace's scripts/setup.sh while it runs; safe to delete."
guarded=false

# While packages are installed, none may start a service: Debian's hook for that is policy-rc.d, exit code 101.
# One that forbids it already (containers have it) stays; any other is put aside and back.
guard_on() {
    if [ -e "$GUARD" ] && ! grep -qF "$MARK" "$GUARD"; then
        local answer=0
        "$GUARD" nginx start >/dev/null 2>&1 || answer=$?
        if [ "$answer" = 101 ]; then return; fi
        as_root mv "$GUARD" "$GUARD.millrace-saved"
    fi
    guarded=true
    printf '#!/bin/sh\n# %s\nexit 101\n' "$MARK" | as_root tee "$GUARD" >/dev/null
    as_root chmod 755 "$GUARD"
}

guard_off() {
    if $guarded; then
        guarded=false
        as_root rm -f "$GUARD"
        if [ -e "$GUARD.millrace-saved" ]; then as_root mv "$GUARD.millrace-saved" "$GUARD"; fi
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    have sudo || return 1
    # Without a terminal sudo cannot ask for a password.
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

# Gives 1 when something could not be installed; says what.
install() {
    local packages=("$@")
    local line="apt-get install --no-install-recommends ${packages[*]}"
    if ! have apt-get; then
        say "no apt-get here; install what matches these Debian packages: ${packages[*]}" >&2
        return 1
    fi
    if ! can_be_root; then
        say "not root, and no sudo; as root, run: $line" >&2
        return 1
    fi
    say "$line"
    local nginx_is_new=false
    case " ${packages[*]} " in *" nginx-light "*) nginx_is_new=true ;; esac
    trap guard_off EXIT
    trap 'exit 130' INT TERM
    guard_on
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    as_root "${apt[@]}" update || say "apt-get update failed; trying with the lists that are there" >&2
    local ok=true
    if ! as_root "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >/dev/null; then
        # One package that cannot be had must not keep the others away.
        local package
        for package in "${packages[@]}"; do
            as_root "${apt[@]}" install -y --no-install-recommends "$package" >/dev/null ||
                { ok=false; say "could not install $package" >&2; }
        done
    fi
    guard_off
    # Not started now; nor shall it be at the next boot. The lab runs its own, on its own config.
    if $nginx_is_new && have systemctl && have nginx; then
        as_root systemctl disable nginx.service >/dev/null 2>&1 &&
            say "the system's nginx service stays off (systemctl enable --now nginx would turn it on)"
    fi
    $ok
}

# --- all together -------------------------------------------------------------------------------------------

mapfile -t missing < <(missing_packages)
rust=true
rust_ok || rust=false

if $check; then
    for package in "${missing[@]}"; do say "missing: $package (apt)"; done
    if [ ${#missing[@]} -gt 0 ] || ! $rust; then exit 1; fi
    say "everything is there"
    exit 0
fi

if [ ${#missing[@]} -gt 0 ]; then
    if install "${missing[@]}"; then
        say "installed: ${missing[*]}"
    else
        say "going on without: $(missing_packages | paste -sd' ')" >&2
    fi
elif $rust; then
    say "everything is there"
fi

have cc || { say "a C compiler is necessary: see above" >&2; exit 1; }
$rust || exit 1
