# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time to the first useful answer.

Row: 8.
Measured: from starting `ckptctl restore` to the first answer over the network that a booted-anew machine could not give (the
nonce that lives in RAM only), for machines of 1, 4 and 8 GiB, half of it in use, lost by SIGKILL.
Floor: starting the same QEMU until its monitor answers.
Peer: the same machine saved by QEMU's own migration to a file and started with -incoming file: (what libvirt's restore does). At 4 GiB `virsh save` and
`virsh restore` of a stock libvirtd as well, the same guest and load, to its answer over a serial port.
Target: at most 1/10 of the peer at 4 GiB; at most 1.2 × from 1 to 8 GiB; at most 0.5 s.
"""
import subprocess
import time

import stats
import stock_libvirt
from ckpt_site import wait_until
from frame import Target
from guest import Qmp
from libvirt_site import why_no_libvirt
from protected import Protected
from restored import restore, who_it_is

SIZES_MIB = (1024, 4096, 8192)


def run(bench):
    smallest, lines = None, {"ours": [], "peer": [], "floor": []}
    for size in SIZES_MIB[:1] if bench.quick else SIZES_MIB:
        ours, peer, floor = measure(bench, size)
        wanted = [Target(at_most=0.5)]
        if size == 4096:
            wanted.append(Target(at_most=0.1, of="peer"))
        bench.row(f"{size // 1024} GiB", "s", ours, floor=floor, peer=peer, target=wanted)
        for name, values in (("ours", ours), ("peer", peer), ("floor", floor)):
            lines[name].append((size / 1024, stats.median(values)))
        smallest = smallest or ours
        if size == SIZES_MIB[-1] and not bench.quick:
            bench.row("8 GiB; floor: ours at 1 GiB", "s", ours, floor=smallest, target=Target(at_most=1.2, of="floor"))
        if size == (SIZES_MIB[0] if bench.quick else 4096):
            beside_libvirt(bench, size, ours)
    bench.if_missed("In it, whatever the size: QEMU's start (the floor), the devices' state, and what the guest does until its answer, under TCG with code that must be "
                    "translated anew, each page of it waited for; next: the working set in the order in which it was asked for.")
    bench.plot("Time to the first useful answer", "GiB", "s, median", lines)


def beside_libvirt(bench, size, ours):
    lacks = why_no_libvirt()
    if lacks:
        bench.note(f"Stock libvirt: not measured here, it needs {lacks}.")
        return
    peer = stock_libvirt.restores(size, size // 2, len(ours))
    bench.row(f"{size // 1024} GiB; peer: virsh restore", "s", ours, peer=peer, target=Target(at_most=0.1, of="peer") if size == 4096 else None)


def measure(bench, size):
    ours, peer, floor = [], [], []
    saved = bench.scratch + "/saved"
    with Protected(bench, memory_mib=size) as machine:
        guest, site = machine.guest, machine.site
        guest.cmd(f"load {size // 2} 0 0", timeout_s=600)
        site.wait_checkpoints("vm", 3, 600)
        nonce = guest.tcp_cmd("nonce")
        machine.protect(False)
        save_as_stock_does(guest, saved)
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 30, "vm to be lost")
        point = f"vm@{site.checkpoints('vm')[-1]['number']}"
        for number in bench.rounds(3, 1):
            floor.append(start_of_qemu(guest))
            ours.append(restore(machine, point, bench.directory(f"disks-{size}-{number}"), who_it_is(nonce)))
            guest.kill()
            wait_until(lambda: site.restore_of("vm")["phase"] == "ended", 60, "the restore to end")
            if size < SIZES_MIB[-1] or number == 0:  # where nothing is judged by it, once is enough
                peer.append(stock_restore(guest, saved, nonce))
    return ours, peer, floor


def save_as_stock_does(guest, path):
    guest.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
    guest.qmp("migrate", uri="file:" + path)
    wait_until(lambda: guest.qmp("query-migrate")["status"] in ("completed", "failed"), 600, "saving")
    assert guest.qmp("query-migrate")["status"] == "completed"


def stock_restore(guest, path, nonce):
    ports = guest.forwards
    start = time.monotonic()
    guest.start(["-incoming", "file:" + path])
    seconds = who_it_is(nonce)(guest, start)
    guest.kill()
    guest.forwards = ports  # those that the recorded command line has
    return seconds


def start_of_qemu(guest):
    ports = guest.forwards
    command = guest.command_line() + ["-S"]
    guest.forwards = ports
    start = time.monotonic()
    with open(guest.path("floor.log"), "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        Qmp(guest.path("qmp.sock")).close()
        return time.monotonic() - start
    finally:
        process.kill()
        process.wait()
