# shellcheck shell=bash
# What the scripts share; sourced, not run. Leaves the shell in the repository's root.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1

# rustup's folder is not on a non-login shell's PATH, and /usr/sbin (nginx, ethtool, ip) is not on a user's.
for dir in "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" /usr/local/sbin /usr/sbin /sbin; do
    case ":$PATH:" in
    *":$dir:"*) ;;
    *) if [ -d "$dir" ]; then PATH="$PATH:$dir"; fi ;;
    esac
done
export PATH

have() {
    command -v "$1" >/dev/null 2>&1
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Why Millrace cannot be built with DPDK here, as it is by default; nothing when it can.
no_dpdk() {
    if ! have pkg-config || ! pkg-config --atleast-version=22.11 libdpdk || ! pkg-config --max-version=22.12 libdpdk; then
        echo "needs libdpdk 22.11; scripts/setup.sh installs it (Debian 12's libdpdk-dev)"
    elif ! compgen -G "/usr/lib/llvm-*/lib/libclang*.so*" >/dev/null && [ -z "${LIBCLANG_PATH:-}" ]; then
        echo "needs libclang; scripts/setup.sh installs it (libclang-dev)"
    fi
}
