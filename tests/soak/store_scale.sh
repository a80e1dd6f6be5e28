#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A day of one-second epochs: opening any point, one look-up and one retention pass stay within a small constant of the
# same after 100 epochs. The figures are printed; what is checked is that none grows with the number of epochs.
# limit: 7200
set -eu
directory=$(mktemp -d "${TMPDIR:-/var/tmp}/ckpt-scale-XXXXXX")
trap 'rm -rf "$directory"' EXIT
"${CKPT_BUILD:-build}/bench/store_scale" "$directory/store" "${CKPT_SCALE_EPOCHS:-86400}" >"$directory/figures"
cat "$directory/figures"
# By what is read, not by how long that takes: "WHAT: at most N reads of K KiB" of 100 epochs and of a day, which may be
# above it by the given reads and KiB. Opening a segment, which happens to who is the first to read from it, takes four
# reads and a few MiB; a look-up opens one for the page and for each level of the tree.
within() {
    sed -n "s/^ *[0-9]* epochs, $1: at most \([0-9]*\) reads of \([0-9]*\) KiB/\1 \2/p" "$directory/figures" |
        awk -v name="$1" -v reads="$2" -v kib="$3" '
            NR == 1 { few_reads = $1; few_kib = $2 }
            NR == 2 { many_reads = $1; many_kib = $2 }
            END {
                if (NR == 2 && many_reads <= few_reads + reads && many_kib <= few_kib + kib) exit 0
                print name ": " few_reads " reads of " few_kib " KiB became " many_reads " of " many_kib
                exit 1
            }'
}
within 'open point' 4 4096
within 'page look-up' 20 20480
# The constant is on top of a floor, above what it takes and far below what a walk over a day's epochs would.
sed -n 's/.*remove+collect \([0-9.]*\) ms.*/\1/p' "$directory/figures" | awk '
    NR == 1 { few = $1 }
    NR == 2 { many = $1 }
    END { if (NR != 2 || many > 20 * few + 50) { print "remove+collect: " few " ms became " many " ms"; exit 1 } }'
