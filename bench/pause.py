# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest pause per epoch.

Row: 1 (against dirty pages) and 2 (against the size of the machine).
Measured: what QEMU reports of each pause (query-checkpoint-stream), from stopping the virtual CPUs until they run again, against the
memory that an epoch carries and against the size of the machine. A Linux guest under TCG that writes random pages and its disk;
our bare guest under KVM. Beside it once what the guest itself sees: the longest step of its counter.
Floor: the same guest stopped and continued by QMP with nothing in between, less the cost of two QMP commands, and memcpy of as many scattered
pages as the pause copied.
Peer: the downtime that QEMU's background-snapshot reports for the same guest and load (no disks in it; QEMU gives it in whole milliseconds). And how
long QEMU's savevm (snapshot-save) stops it, from its event STOP to RESUME: until all of its memory is in the file.
Target: p50 at most 3 ms and p99 at most 8 ms at 57 MiB an epoch, and no longer than the peer; 8 GiB at most 1.2 × of 1 GiB.
"""
import time

import background_snapshot
import stats
from frame import Target
from machine import kvm_works
from protected import Protected
from savevm import Snapshots

EPOCHS, QUICK = 30, 4
CURVE_EPOCHS = 16  # where the pause is not judged, and no percentile quoted
DIRTY_MIB = {"TCG": (0, 1, 8, 57, 200), "KVM": (0, 8)}  # an epoch; this KVM emulates each instruction of the bare guest
JUDGED_MIB = 57  # an epoch of one second, as the targets say
SHORT_MS = 250  # between epochs where it is not the interval that is asked about
SIZES_MIB = (1024, 4096, 8192)
EQUAL_MIB = 8  # dirtied an epoch at every size


def run(bench):
    curve = {}
    with Protected(bench, memory_mib=1024) as machine:
        by_dirty_pages(bench, machine, "TCG", curve)
        machine.interval(SHORT_MS)
        guest_view(bench, machine)
    if kvm_works():
        with Protected(bench, interval_ms=500, guest="bare", memory_mib=1024, accel="kvm", append="rate=1 words=2") as machine:
            by_dirty_pages(bench, machine, "KVM", curve)
    else:
        bench.note("KVM: scripts/kvm-probe says that it does not run our bare guest here.")
    bench.plot("Pause against what the epoch carried", "MiB", "ms, median", curve)
    by_size(bench)
    bench.if_missed("What takes the pause is above, part by part: saving the devices' state is most of a short one; next: state of a device that has not changed since the "
                    "last epoch is taken from there.")


def by_dirty_pages(bench, machine, accel, curve):
    amounts = DIRTY_MIB[accel][:3:2] if bench.quick else DIRTY_MIB[accel]
    if bench.options.load and accel == "TCG":
        amounts = ("given",)
    for amount in amounts:
        at_amount(bench, machine, accel, amount, curve)


def at_amount(bench, machine, accel, amount, curve):
    """Ours, the floor and the peer in turn, on one guest and load."""
    judged = amount in (JUDGED_MIB, "given")
    if accel == "TCG":
        machine.interval(1000 if judged or amount > JUDGED_MIB else SHORT_MS)
    start_load(bench, machine, amount)
    time.sleep(2 * machine.interval_s)
    pauses, quiet, peer, carried, saved = [], [], [], [], []
    for _ in bench.rounds(2 if judged else 1, 1):
        taken = machine.epochs(len(bench.rounds(EPOCHS // 2 if judged else CURVE_EPOCHS, QUICK)))
        pauses += taken
        carried += [size / 2**20 for size in machine.carried(len(taken))]
        quiet += quiet_pauses(machine, len(taken))
        if accel == "TCG":
            machine.protect(False)
            peer += snapshots(machine, len(bench.rounds(5, 2)))
            saved += savevms(bench, machine) if judged or bench.quick else []
            machine.protect(True)
    copied = round(stats.median([pause["pages"] for pause in pauses]))
    memcpy = bench.samples("raw_memory", "copy", copied, machine.guest.memory_mib, len(quiet))
    floor = [a + b / 1000 for a, b in zip(quiet, memcpy)]
    ours = [pause["total"] / 1000 for pause in pauses]
    mebibytes = stats.median(carried)
    wanted = []
    if amount == JUDGED_MIB:
        wanted = [Target(at_most=3), Target(at_most=8, percent=99), Target(at_most=1, of="peer")]
    bench.row(f"{accel}, {mebibytes:.1f} MiB an epoch, {copied} pages copied in the pause", "ms", ours, floor=floor,
              peer=peer, target=wanted)
    if saved:
        bench.row(f"{accel}, {mebibytes:.1f} MiB an epoch; peer: savevm", "ms", ours, peer=saved)
    parts = {name: stats.median([pause[name] for pause in pauses]) for name in ("drain", "device", "dirty", "copy")}
    bench.note(f"{accel}, {mebibytes:.1f} MiB: of the pause (medians, µs) "
               + ", ".join(f"{name} {value:.0f}" for name, value in parts.items()) + ".")
    for name, values in ((accel, ours), (accel + ", floor", floor), (accel + ", peer", peer)):
        if values:
            curve.setdefault(name, []).append((mebibytes, stats.median(values)))


def start_load(bench, machine, amount):
    if amount == "given":
        machine.load(*bench.options.load.split())
    else:
        # Spread over so much that a page is rarely written twice in an epoch.
        machine.load(512, round(amount * 256 / machine.interval_s), 20 if amount else 0)


def quiet_pauses(machine, count):
    """stop and cont at once, less two commands that do nothing: milliseconds."""
    def timed(first, second):
        start = time.perf_counter()
        machine.guest.qmp(first)
        machine.guest.qmp(second)
        return (time.perf_counter() - start) * 1000
    plain = stats.median([timed("query-name", "query-name") for _ in range(20)])
    pauses = []
    for _ in range(count):
        pauses.append(max(0.0, timed("stop", "cont") - plain))
        time.sleep(0.05)
    machine.guest.qmp_connection.events.clear()
    return pauses


def snapshots(machine, count):
    """Downtimes of QEMU's own background snapshots: milliseconds."""
    with background_snapshot.allowed(machine.guest):
        return [background_snapshot.take(machine.guest)["downtime"] for _ in range(count)]


def savevms(bench, machine):
    with Snapshots(machine.guest, bench.scratch) as snapshot:
        return [snapshot.save() for _ in bench.rounds(2, 1)]


def guest_view(bench, machine):
    """Does the guest see what QEMU says? Its counter takes a step every 5 ms; the longest step of an epoch, in turn without epochs."""
    if machine.guest.name != "linux-small":
        return
    machine.load(512, round(EQUAL_MIB * 256 / machine.interval_s), 20)
    seen, reported, alone = [], [], []
    for _ in bench.rounds(2, 1):
        for protected, into in ((True, seen), (False, alone)):
            machine.protect(protected)
            machine.guest.cmd("gap")
            for _ in bench.rounds(15, 4):
                if protected:
                    reported.append(machine.epochs(1)[0]["total"] / 1000)
                else:
                    time.sleep(machine.interval_s)
                into.append(int(machine.guest.cmd("gap")) / 1000)
    machine.protect(True)
    bench.row("longest step of the guest's counter in an epoch; floor: without protection", "ms", seen, floor=alone)
    bench.note(f"Seen by the guest: {stats.median(seen) - stats.median(alone):.1f} ms more than without protection; QEMU reported pauses of "
               f"{stats.median(reported):.1f} ms (medians).")


def by_size(bench):
    """The same work in machines of several sizes; the smallest is the others' floor."""
    smallest, points = None, []
    for size in (512, 1024) if bench.quick else SIZES_MIB:
        with Protected(bench, interval_ms=SHORT_MS, memory_mib=size) as machine:
            machine.load(256, round(EQUAL_MIB * 256 / machine.interval_s), 20)
            time.sleep(1)
            ours = [pause["total"] / 1000 for pause in machine.epochs(len(bench.rounds(EPOCHS, QUICK)))]
        smallest = smallest or (size, ours)
        bench.row(f"TCG, {size} MiB of memory, {EQUAL_MIB} MiB dirtied; floor: {smallest[0]} MiB of memory", "ms", ours, floor=smallest[1],
                  target=Target(at_most=1.2, of="floor") if size == SIZES_MIB[-1] else None)
        points.append((size / 1024, stats.median(ours)))
    bench.plot(f"Pause against the size of the machine, {EQUAL_MIB} MiB dirtied an epoch", "GiB", "ms, median", {"TCG": points})
