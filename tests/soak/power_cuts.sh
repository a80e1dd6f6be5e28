#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 14400
#
# The store's faults, at 10,000 points of each kind (CKPT_FAULT_POINTS: another number; CKPT_FAULT_SEED: one seed only).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${CKPT_BUILD:-$root/build}/tests/unit/store_fault_test
[ -x "$program" ] || { echo "$program is not built: run 'make build'"; exit 1; }

export CKPT_FAULT_POINTS=${CKPT_FAULT_POINTS:-10000}
"$program" "$@" | awk '
    { print; fflush() }
    /^points / { points = $2 + 0; taken = $5 + 0 }
    /^\[       OK \]/ { n++; printf "ok %d - %s: %d points, %d faults taken\n", n, $4, points, taken; points = taken = 0 }
    /^\[  FAILED  \] .*\(/ { n++; printf "not ok %d - %s\n", n, $4 }
    END { printf "1..%d\n", n }'
