# SPDX-License-Identifier: LGPL-2.1-or-later
"""A store after many epochs.

Measured: open the store, open a checkpoint, look up a page, count references, and one pass of removal and reclaiming
(bench/store_scale.cc), after a generated run of one-second epochs.
Floor: the same store after its first 100 epochs.
Peer: none.
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
        grows = name.strip() in ("store", "memory", "count references", "open store")
        bench.row(f"{name.strip()} after {last:,} epochs, floor after {first}", unit, [value], floor=[before[name][0]],
                  target=None if grows else Target(at_most=1.5, of="floor"))
    bench.note("Opening the store, its memory and counting references grow with what the store holds: stated, without a target here.")
