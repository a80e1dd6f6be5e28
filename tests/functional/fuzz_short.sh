#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every fuzz target for a few seconds: it builds, takes its golden files, and finds
# nothing at once. Long runs: make fuzz.
# limit: 900
set -u
cd "$(dirname "$0")/../.."
if ! ls tests/fuzz/*_fuzz.cc >/dev/null 2>&1; then
    echo "there are no fuzz targets"
    exit 77
fi
# libFuzzer ends with a code that means "skipped" here when it finds something.
scripts/fuzz "${FUZZ_SECONDS:-5}" || exit 1
