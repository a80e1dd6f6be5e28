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
# Milliseconds of the named figure, in the order of the stages.
figure() {
    sed -n "s/.*$1 \([0-9.]*\) ms.*/\1/p" "$directory/figures"
}
# Timers this short jump: the constant is on top of a floor, above what each takes and far below what a walk over a day's
# epochs would.
within() {
    figure "$1" | awk -v name="$1" -v floor="$2" '
        NR == 1 { few = $1 }
        NR == 2 { many = $1 }
        END { if (NR != 2 || many > 20 * few + floor) { print name ": " few " ms became " many " ms"; exit 1 } }'
}
within 'open point' 0.5
within 'page look-up' 0.5
within 'remove+collect' 50
