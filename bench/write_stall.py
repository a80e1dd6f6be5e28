# SPDX-License-Identifier: LGPL-2.1-or-later
"""Longest stall of a write of the guest.

Row: 5.
Measured: the longest time in an epoch of one second (KVM: half a second), by the guest's own clock, from when a write to a page could begin until the next one could,
and the second longest: our bare guest writes to 14,600 random pages a second, 57 MiB (TCG), or to 2,000 (KVM).
Floor: a write to a page that is protected with userfaultfd, until another thread has copied the page and lifted the protection
(bench/write_faults.cc).
Peer: the same guest, not protected, while QEMU's background-snapshot saves it to nowhere: copy-before-write by the same fault. (Its
downtime is not in it: the guest's clock stands still meanwhile.) And without anything, in turn: what the machine itself does to a write.
Target: p99 at most 3 × the floor's p99.
"""
import time

import background_snapshot
from frame import Target
from machine import kvm_works
from protected import Protected

EPOCHS, QUICK = 30, 4
ALONE, SNAPSHOTS = 10, 10  # of these no percentile is wanted
FAULTS = 500


def run(bench):
    guests = [("TCG", dict(append="rate=14600"), Target(at_most=3, of="floor", percent=99))]
    if kvm_works():
        guests.append(("KVM", dict(accel="kvm", interval_ms=500, append="rate=2000 words=2"), Target(at_most=3, of="floor", percent=99)))
    for accel, how, target in guests[:1] if bench.quick else guests:
        with Protected(bench, guest="bare", memory_mib=256, **how) as machine:
            in_guest(bench, machine, accel, target)
    bench.note("Pages are copied ahead of the pause while the guest runs, and what is left inside it: no write waits for a copy, and none is protected. So "
               "the longest stall is the pause itself, and the second longest what protection costs a write outside of it.")
    bench.if_missed("The bound could be met only by a pause as short as three such faults; next: shorten the pause (device state is most of it).")


def in_guest(bench, machine, accel, target):
    ours, alone, peer, floor = [], [], [], []
    for _ in bench.rounds(2, 1):
        machine.protect(True)
        longest(machine)
        for _ in bench.rounds(EPOCHS // 2, QUICK):
            machine.epochs(1)
            ours.append(longest(machine))
        machine.protect(False)
        longest(machine)
        for _ in bench.rounds(ALONE // 2, QUICK):
            time.sleep(machine.interval_s)
            alone.append(longest(machine))
        with background_snapshot.allowed(machine.guest):
            for _ in bench.rounds(SNAPSHOTS // 2, QUICK):
                longest(machine)
                background_snapshot.take(machine.guest)
                peer.append(longest(machine))
        floor += bench.samples("write_faults", 64, FAULTS)
    for number, name in enumerate(("longest", "second longest")):
        bench.row(f"{accel}, the {name} of an epoch", "µs", [pair[number] for pair in ours], floor=floor, peer=[pair[number] for pair in peer], target=target)
    bench.row(f"{accel}, without protection: the longest of as much time", "µs", [pair[0] for pair in alone], floor=floor)


def longest(machine):
    """The two longest since this was asked."""
    return list(map(int, machine.guest.cmd("m").split()))
