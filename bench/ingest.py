# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stream to durable store, per core.

Row: 6.
Measured: MiB/s from pages in memory to a committed checkpoint (bench/ingest.cc), new content and content that is there
already; by the clock and by CPU time, which leaves out waiting for the disk.
Floor: `zstd -1` alone on the same pages in the same frames, in turn.
Peer: plain `zstd -1`: the floor.
Target: at least 80 % of zstd alone.
"""
import re

from frame import Target
from guest import Guest
from saved_guest import data_pages

LINE = re.compile(r"^(.*?)\s+median ([\d.]+) MiB/s \(([\d.]+) to ([\d.]+)\)$", re.MULTILINE)


def guest_pages(bench, limit_pages):
    """Of a Debian guest, PostgreSQL, Redis and nginx having started."""
    with Guest("debian", memory_mib=512, cpus=2, directory=bench.scratch) as guest:
        guest.start()
        guest.wait_ready(600)
        guest.qmp("stop")
        return data_pages(guest, bench.scratch, limit_pages)


def run(bench):
    pages, count = guest_pages(bench, 8192 if bench.quick else 65536)
    found = {}
    for number in bench.rounds(3, 1):
        text = bench.call("ingest", bench.directory(f"store{number}"), pages)
        for name, *values in LINE.findall(text):
            # Three values of each call: its median and what it lies between.
            found.setdefault(name, []).extend(float(value) for value in values)
    floor = {"clock": found.get("zstd -1 alone"), "CPU": found.get("zstd -1 alone, CPU time")}
    for name, values in found.items():
        if not name.startswith("zstd"):
            by_cpu = "CPU time" in name
            wanted = Target(at_least=0.8, of="floor") if name.startswith("pages") else None
            bench.row(name, "MiB/s", values, floor=floor["CPU" if by_cpu else "clock"], target=wanted)
    bench.note(f"{count * 4096 >> 20} MiB of a Debian guest's memory, without its zero pages; one core.")
    bench.if_missed("Beside compressing, each page is hashed and looked up, and by the clock what was written is synced; next: hash and look up by batches, ahead of "
                    "the compression.")
