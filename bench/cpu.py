# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPU time of protection.

Row: 14.
Measured: CPU milliseconds (/proc/PID/stat) for each MiB that the epochs carried, at one second: of ckptd, and of QEMU more than the same guest and load
take unprotected, in turn, its vCPU and its other threads apart.
Floor: pages of the same guest compressed by zstd -1 alone (bench/ingest.cc), CPU time, once.
Peer: none: nothing else captures a machine continuously.
Target: none; it is stated, and shall fall.
"""
import re
import time

import cpu_time
import frame
import stats
from protected import Protected
from saved_guest import data_pages

DIRTY_MIB = (1, 57)  # an epoch
WINDOW_S, QUICK_S = 5, 3


def run(bench):
    with Protected(bench, memory_mib=512) as machine:
        for amount in DIRTY_MIB[:1] if bench.quick else DIRTY_MIB:
            machine.load(256, amount * 256, 20)
            at_amount(bench, machine)
    bench.note("QEMU's extra is a difference of two windows: where little is carried it is noise, and may be negative. Under TCG the vCPU pays for dirty "
               "tracking with its own code, which KVM does not.")


def at_amount(bench, machine):
    taken = {name: [] for name in ("ckptd", "QEMU, vCPUs", "QEMU, other threads", "together")}
    carried = []
    for _ in bench.rounds(2, 1):
        machine.protect(True)
        time.sleep(1)
        mebibytes, with_it = window(bench, machine)
        machine.protect(False)
        time.sleep(1)
        without = window(bench, machine)[1]
        each = {name: (with_it[name] - (without[name] if name.startswith("QEMU") else 0)) * 1000 / mebibytes for name in with_it}
        for name, value in {**each, "together": sum(each.values())}.items():
            taken[name].append(value)
        carried.append(mebibytes / window_s(bench))
    floor = zstd_alone(bench, machine)
    title = f"{stats.median(carried):.1f} MiB a second"
    for name, values in taken.items():
        bench.row(f"{title}: {name}", "ms/MiB", values, floor=[floor])


def window_s(bench):
    return QUICK_S if bench.quick else WINDOW_S


def window(bench, machine):
    """(MiB carried, {who: seconds of CPU}) of a window."""
    before = len(machine.site.checkpoints("vm"))
    begin = used(machine)
    time.sleep(window_s(bench))
    end = used(machine)
    carried = sum(point["data_bytes"] for point in machine.site.checkpoints("vm")[before:])
    return carried / 2**20, {name: end[name] - begin[name] for name in begin}


def used(machine):
    pid = machine.guest.process.pid
    vcpus = cpu_time.of_threads(pid, [cpu["thread-id"] for cpu in machine.guest.qmp("query-cpus-fast")])
    return {"ckptd": cpu_time.of_process(machine.site.process.pid), "QEMU, vCPUs": vcpus, "QEMU, other threads": cpu_time.of_process(pid) - vcpus}


def zstd_alone(bench, machine):
    """Milliseconds of CPU for each MiB of what this guest's memory holds."""
    pages, _ = data_pages(machine.guest, bench.scratch, 8192)
    text = bench.call("ingest", bench.directory(f"store{time.monotonic_ns()}"), pages)
    match = re.search(r"^zstd -1 alone, CPU time\s+median ([\d.]+) MiB/s", text, re.MULTILINE)
    if not match:
        raise frame.Skip("ingest does not say how fast zstd is")
    return 1000 / float(match.group(1))
