# SPDX-License-Identifier: LGPL-2.1-or-later
"""Service level during a restore.

Row: 12 (VOD, and back to normal).
Measured: of a log of video on demand that is replayed against nginx of a Debian guest, the share of pieces that are there in time in the
first 10 seconds from the first answer after a restore on: lazily and aggressively, from a local store and from one behind a link of 100 Mb/s and 2 ms (made in
user space: each read of the agent waits for it, and nbdkit has a link alike). And how long memory takes to be local.
Floor: the same log on the same machine before it was lost; for memory over the link, what the link alone takes for as many bytes.
Peer: none: nothing else restores over a link without having fetched all before; QEMU's restore from a local file is in "Time to the first useful answer".
Target: at least 96 % in time (a loss of at most 4 %); memory local within 1.1 × of the time that the link alone takes.
"""
import contextlib
import time
import urllib.request

import video
from ckpt_site import wait_until
from far_link import FarLink
from frame import Target
from protected import Protected
from restored import agent_status, lose, restore, who_it_is

SECONDS, QUICK = 10, 5
MEGABITS, ROUND_TRIP_MS = 100, 2


def run(bench):
    seconds = QUICK if bench.quick else SECONDS
    curves = {}
    with Protected(bench, guest="debian", memory_mib=512, ports=(7, 80)) as machine:
        guest, site = machine.guest, machine.site
        # Videos lie in the page cache, as what many watch does.
        urllib.request.urlopen(f"http://127.0.0.1:{guest.forwards[80]}/data.txt", timeout=60).read()
        before = video.replay(guest.forwards[80], seconds)
        site.wait_checkpoints("vm", 2, 300)
        wait = who_it_is(guest.tcp_cmd("nonce"))
        machine.protect(False)
        lose(machine)
        point = f"vm@{site.checkpoints('vm')[-1]['number']}"
        for far in (False,) if bench.quick else (False, True):
            for mode in ("aggressive",) if bench.quick else ("lazy", "aggressive"):
                where = f"100 Mb/s + 2 ms, {mode}" if far else f"local store, {mode}"
                curves[where] = one(bench, machine, point, wait, mode, far, where, video.in_time(before))
    bench.plot("Pieces of video in time, from the first answer on", "s", "% in time",
               {name: list(enumerate(video.by_second(pieces, seconds), 1)) for name, pieces in {"before the loss": before, **curves}.items()})
    bench.if_missed("Behind the link a lazy restore waits a round trip for each neighbourhood that the machine touches for the first time, and nothing may be asked for before; "
                    "an aggressive one is as fast as its link, and what the first second needs waits its turn in it. Next: of a segment's footer, which is a "
                    "megabyte and waited for, only what is wanted; a second thread for faults, so that they wait for one another no more.")


def asked(link):
    carried_bytes, requests = link.carried()
    return f"Its link carried {carried_bytes / (1 << 20):.1f} MiB by {requests:,} requests."


def one(bench, machine, point, wait, mode, far, where, floor):
    link = FarLink(bench, MEGABITS, ROUND_TRIP_MS) if far else None
    with link.used() if link else contextlib.nullcontext():
        to_answer_s = restore(machine, point, bench.directory(f"disks-{time.monotonic_ns()}"), wait, options=["--mode", mode])
        pieces = video.replay(machine.guest.forwards[80], QUICK if bench.quick else SECONDS)
        if mode == "aggressive":
            wait_until(lambda: "ram_local" in agent_status(machine.site)["marks_ms"], 300, "memory to be local")
        status = agent_status(machine.site)
        lose(machine)
    bench.row(f"{where}: {len(pieces)} pieces, in time", "%", [video.in_time(pieces)], floor=[floor], target=Target(at_least=96))
    bench.note(f"{where}: first answer after {to_answer_s:.1f} s; restore-agent says that the vCPUs had "
               f"{status['service'].get('level_percent', 0):.1f} % of their time." + (f" {asked(link)}" if link else ""))
    if mode == "aggressive":
        marks = status["marks_ms"]
        local_s = (marks["ram_local"] - marks["ready"]) / 1000
        bench.row(f"{where}: until memory is local", "s", [local_s], floor=[link.seconds_alone()] if link else None,
                  target=Target(at_most=1.1, of="floor") if link else None)
    return pieces
