# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waits for missing memory as our bare guest sees them: restored by us, and after QEMU's own postcopy."""
import time

from ckpt_site import wait_until
from guest import Guest
from protected import Protected

MEMORY_MIB = 512
# Whole pages are written, half of them noise, as compressible as the memory of real guests.
PAGES = "rate=1 words=1024"
# A page that is there is read in less, and one that is not never is.
WAIT_US = 5
# QEMU's limit of what it sends unasked, bytes a second, 0: none.
PUSHED = {"lazy": 65536, "aggressive": 0}


def measure(bench, count):
    ours, peer = {mode: [] for mode in PUSHED}, {mode: [] for mode in PUSHED}
    with Protected(bench, guest="bare", memory_mib=MEMORY_MIB, append=PAGES) as machine:
        fill(machine.guest)
        machine.site.wait_checkpoints("vm", 2, 300)
        point = f"vm@{machine.site.checkpoints('vm')[-1]['number']}"
        lose(machine)
        for _ in bench.rounds(2, 1):
            for mode, unasked in PUSHED.items():
                machine.site.restore(machine.guest, point, ["--mode", mode])
                ours[mode] += waits(machine.guest, count)
                if mode == "lazy":
                    machine.site.ctl("finish", "vm")
                wait_until(lambda: machine.site.restore_of("vm")["phase"] == "local", 120, "memory to be local")
                machine.protected = True
                machine.protect(False)
                peer[mode] += after_postcopy(bench, machine.guest, unasked, count)
                lose(machine)
    for mode in PUSHED:
        bench.row(f"seen by a guest, {mode}; peer: QEMU's postcopy", "µs", ours[mode], peer=peer[mode])
        reads = len(bench.rounds(2, 1)) * count
        bench.note(f"Seen by a guest, {mode}: of {reads} reads {len(ours[mode])} had to wait, after postcopy {len(peer[mode])}.")


def fill(guest):
    """Every page has been written, and is not written any more."""
    assert guest.cmd("l 0") == "ok"
    time.sleep(4)
    assert guest.cmd("pause") == "ok"


def lose(machine):
    machine.guest.kill()
    wait_until(lambda: not machine.site.machine("vm")["connected"], 30, "vm to be lost")


def waits(guest, count):
    return [us for us in map(int, guest.cmd(f"t {count}", timeout_s=60).split()) if us >= WAIT_US]


def after_postcopy(bench, source, unasked, count):
    """Of a guest that goes on elsewhere while its memory is still here."""
    directory = bench.directory(f"postcopy-{time.monotonic_ns()}")
    with Guest("bare", memory_mib=MEMORY_MIB, directory=directory, append=PAGES) as target:
        target.start(["-incoming", "defer"])
        for guest in (source, target):
            # Preempt: what is waited for goes by a connection of its own.
            guest.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in ("postcopy-ram", "postcopy-preempt")])
        target.qmp("migrate-incoming", uri=f"unix:{directory}/migrate.sock")
        # Next to nothing goes ahead of the guest.
        source.qmp("migrate-set-parameters", max_bandwidth=4096, max_postcopy_bandwidth=unasked)
        source.qmp("migrate", uri=f"unix:{directory}/migrate.sock")
        wait_until(lambda: source.qmp("query-migrate").get("status") == "active", 30, "the migration to begin")
        source.qmp("migrate-start-postcopy")
        wait_until(lambda: target.qmp("query-status")["running"], 60, "the guest to go on")
        return waits(target, count)
