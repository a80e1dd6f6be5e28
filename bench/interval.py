# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shortest interval.

Row: 4.
Measured: checkpoints a second that become durable, in windows of four seconds, with the interval set to 50 ms and a light load (200 pages
and 5 disk blocks written a second).
Floor: what the disk allows, in turn: two small files, each appended to and synced, a checkpoint (a segment and the journal).
Peer: none: QEMU has nothing that takes points one after the other; what one of its snapshots costs is in "Guest pause per epoch".
Target: at least 20 a second (19.5 counts: a window has edges, and ckptd takes no interval below 50 ms).
"""
import os
import time

from frame import Target
from protected import Protected

WINDOW_S = 4


def run(bench):
    ours, floor, pauses = [], [], []
    with Protected(bench, interval_ms=50, memory_mib=512) as machine:
        machine.load(*(bench.options.load.split() or (32, 200, 5)))
        for _ in bench.rounds(3, 1):
            machine.protect(True)
            for _ in range(2):
                ours.append(window(lambda: machine.site.machine("vm")["epochs_total"]))
            pauses += [pause["total"] / 1000 for pause in machine.epochs(10)]
            machine.protect(False)
            for _ in range(2):
                floor.append(synced_pairs(bench.scratch))
    bench.row("checkpoints a second at 50 ms", "1/s", ours, floor=floor, target=Target(at_least=19.5))
    bench.row("pause of each", "ms", pauses)
    bench.if_missed("An epoch that is not durable when the next is due delays it, and none is made up for; next: the next epoch is taken while the one before is "
                    "still being synced.")


def window(total):
    before, start = total(), time.monotonic()
    time.sleep(WINDOW_S)
    return (total() - before) / (time.monotonic() - start)


def synced_pairs(directory):
    files = [os.open(f"{directory}/sync{i}", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for i in range(2)]
    count, start = 0, time.monotonic()
    while time.monotonic() - start < WINDOW_S / 4:
        for file in files:
            os.write(file, bytes(8192))
            os.fdatasync(file)
        count += 1
    seconds = time.monotonic() - start
    for file in files:
        os.close(file)
    return count / seconds
