# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fault-in.

Row: 9.
Measured: how long a thread waits that touches a missing page, by its own clock, with 1, 2, 4 and 8 threads touching
random pages of a real guest's memory without a break. bench/faults plays QEMU's side of doc/restore_format.md; restore-agent serves it
from a local store, lazily (nothing else runs) and aggressively (prefetch runs). Each page is compared with what it must hold.
Floor: the same touching, served with a page that lies ready in memory (userfaultfd, UFFDIO_COPY of 4 KiB) by another process,
as an agent is one. A handler thread in the same process is shown beside it. Second floor: that process has the page in memory in a
frame of four, compressed by zstd -1, as a store has it.
Peer: a process of the same memory that `criu dump` has written to files and `criu restore --lazy-pages` has brought back (its daemon fetches the rest
meanwhile). And, seen by the bare guest, by its clock, when it reads random pages of its memory (TCG, 1 vCPU): QEMU's own postcopy from a QEMU of the
same host, pages pushed meanwhile as fast as it goes, or 64 KiB of them a second.
Target: p50 at most 1.3 × the floor; p99 at most 2 × the floor with prefetch running.
"""
import criu
import postcopy
from frame import Target
from saved_guest import saved_guest

COUNT, QUICK = 1000, 200  # faults a round


def run(bench):
    count = QUICK if bench.quick else COUNT
    curves = {}
    ways = ["raw thread", "raw process", "raw packed", "lazy", "aggressive"]
    no_criu = criu.why_not()
    if no_criu:
        bench.note(f"CRIU: {no_criu}.")
    else:
        ways.append("criu")
    with saved_guest(bench) as saved:
        for threads in (1, 2) if bench.quick else (1, 2, 4, 8):
            taken = {}
            for _ in bench.rounds(2, 1):
                for name in ways:
                    taken.setdefault(name, []).extend(one(bench, saved, name, threads, count))
            floor = taken["raw process"]
            title = f"{threads} thread{'s' if threads > 1 else ''}"
            bench.row(title + ", nothing else running", "µs", taken["lazy"], floor=floor, target=Target(at_most=1.3, of="floor"))
            bench.row(title + ", prefetch running", "µs", taken["aggressive"], floor=floor, peer=taken.get("criu"),
                      target=[Target(at_most=1.3, of="floor"), Target(at_most=2, of="floor", percent=99)])
            bench.row(title + ", nothing else running; floor: a compressed page", "µs", taken["lazy"], floor=taken["raw packed"])
            bench.row(title + ", handler in the same process", "µs", taken["raw thread"], floor=floor)
            if threads == 1:
                curves = {"raw, other process": floor, "raw, same process": taken["raw thread"], "raw, compressed": taken["raw packed"],
                          "ours, lazy": taken["lazy"], "ours, prefetch running": taken["aggressive"]}
                if "criu" in taken:
                    curves["CRIU, prefetch running"] = taken["criu"]
    postcopy.measure(bench, count)
    bench.distribution("Fault-in, 1 thread", "µs", curves)
    bench.if_missed("Ours finds the page in the manifest, reads a frame of four pages from the store, checks and decompresses it; the first floor does "
                    "none of this, the second decompresses it. So 1.3 × the first is out of reach for a page that nobody has fetched "
                    "ahead; next: decompress what the working set says before it is asked for.")


def one(bench, saved, name, threads, count):
    if name.startswith("raw "):
        return bench.samples("faults", "raw", name[4:], saved.images, threads, count)
    if name == "criu":
        return criu.lazy_waits(bench, saved.images, threads, count)
    with saved.agent(name) as agent:
        return bench.samples("faults", "agent", agent.socket, saved.images, threads, count)
