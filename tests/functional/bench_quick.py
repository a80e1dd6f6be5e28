#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measurements that drive whole guests still work: short ones, which must give rows, whatever the figures are."""
# limit: 900
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from oracle import Tap  # noqa: E402

# Of each: a row that it must have.
MEASUREMENTS = {"store_size": "points of a second after the first", "write_stall": "TCG, the longest of an epoch",
                "working_set": "faults before the first answer"}


def run_one(name):
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([ROOT + "/bench/run", "--quick", "--only", name, "--out", out, "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        measured = json.loads(done.stdout)["measurements"][0]
    assert not measured["skipped"], measured["skipped"]
    rows = [row for row in measured["rows"] if MEASUREMENTS[name] in row["name"]]
    assert rows and rows[0]["ours"]["n"] > 0 and rows[0]["floor"]["p50"] > 0, measured["rows"]
    return f"{len(measured['rows'])} rows, {measured['seconds']:.0f} s"


tap = Tap()
for measurement in MEASUREMENTS:
    tap.case(measurement, run_one, measurement)
tap.end()
