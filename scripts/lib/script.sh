# Sourced by the scripts beside this folder: where the tree is, how they speak and how they fail.
# shellcheck shell=bash

set -euo pipefail

program=${0##*/}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The folder of release builds: .cargo/config.toml names the target so that static linking stays off build scripts.
# shellcheck disable=SC2034  # read by the scripts that source this
release=${CARGO_TARGET_DIR:-$root/target}/x86_64-unknown-linux-gnu/release

# rustup's own folder is often missing from the PATH of root and of services.
command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin

# What is going on, on stderr: stdout belongs to results.
say() { printf '%s: %s\n' "$program" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# Wrong usage, in one line that says where the help is.
usage_error() {
    say "$* (see $program --help)"
    exit 2
}

# The comment at the head of a script is its help.
print_help() { sed -n '2,/^[^#]*$/{s/^# \{0,1\}//p}' "$0"; }

# Prints the help and ends, when one of the arguments asks for it.
help_if_asked() {
    local argument
    for argument; do
        case $argument in
        --) return ;;
        -h | --help)
            print_help
            exit 0
            ;;
        esac
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "run $1: not root, and there is no sudo"
    fi
}

# Bytes as megabytes with two decimals (1 MB = 1,000,000 bytes).
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.2f MB", bytes / 1e6 }'; }
