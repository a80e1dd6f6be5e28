# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Guests are built once per content of their inputs, in the same cache as QEMU.
# To be sourced by bash scripts in tests/guests.

guests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$guests/../../scripts
cache=${CKPT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ckpt}
. "$scripts/lib/progress.sh"

# hash_of WORD|FILE... - a hash over words and the contents of files.
hash_of() {
    local input
    for input in "$@"; do
        if [ -f "$input" ]; then cat "$input"; else echo "$input"; fi
    done | sha256sum | cut -c 1-16
}

# cached NAME HASH FUNCTION - prints the directory NAME-HASH of the cache. If it
# is not there, FUNCTION makes it: it is called with the name of a directory that
# takes its final name only when complete. Messages go to stderr.
cached() {
    local name=$1 dir=$cache/guest-$1-$2 make=$3
    if [ ! -d "$dir" ]; then
        mkdir -p "$cache/logs"
        exec 8>"$cache/guest-$name.lock"
        flock 8
        if [ ! -d "$dir" ]; then
            rm -rf "$dir.part"
            mkdir "$dir.part"
            "$make" "$dir.part" >&2
            mv "$dir.part" "$dir"
            # Machines may still run from older ones: the newest few stay.
            ls -dt "$cache/guest-$name-"????????????????/ | tail -n +4 | xargs -r rm -rf
        fi
        exec 8>&-
    fi
    echo "$dir"
}
