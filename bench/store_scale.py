# SPDX-License-Identifier: LGPL-2.1-or-later
"""A store after many epochs.

Row: 13.
Measured: open the store, open a checkpoint, look up a page, count references, and one pass of removal and reclaiming
(bench/store_scale.cc), after a generated run of one-second epochs.
Floor: the same store after its first 100 epochs.
Peer: none: what restic and borg make of ten points is in "Size of the store".
Target: within 1.5 × of the same after 100 epochs. The whole day of 86,400 is `make soak`'s; here a part of it.
"""
import re

from frame import Target

LINE = re.compile(r"^\s*(\d+) epochs: (.*)$", re.MULTILINE)
EPOCHS, QUICK = 5000, 500


def run(bench):
    epochs = QUICK if bench.quick else EPOCHS
    text = bench.call("store_scale", bench.directory("store"), epochs)
    stages = [(int(count), dict((name, (float(value), unit)) for name, value, unit in
                                re.findall(r"([a-z+\- ]+?) ([\d.]+) (ms|MiB)", line)))
              for count, line in LINE.findall(text)]
    (first, before), (last, after) = stages[0], stages[-1]
    for name, (value, unit) in after.items():
        grows = name.strip() in ("store", "count references")
        bench.row(f"{name.strip()} after {last:,} epochs, floor after {first}", unit, [value], floor=[before[name][0]],
                  target=None if grows else Target(at_most=1.5, of="floor"))
    bench.note("Size, and counting references, grow with what the store holds: stated, without a target here.")
    bench.if_missed("Opening the store reads of each segment what it holds, and memory has a list of all checkpoints and an index of all chunks, which saves space only; next: "
                    "the index bounded, and both read when they are first asked for. Times below 0.1 ms jump by more than 1.5 × between two looks.")
