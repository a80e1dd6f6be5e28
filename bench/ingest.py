# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stream to durable store, per core.

Measured: MiB/s from pages in memory to a committed checkpoint (bench/ingest.cc), new content and content that is there
already; by the clock and by CPU time, which leaves out waiting for the disk.
Floor: `zstd -1` alone on the same pages in the same frames, in turn.
Peer: the floor is the peer.
Target: at least 80 % of zstd alone.
"""
import os
import re

from frame import Target

LINE = re.compile(r"^(.*?)\s+median ([\d.]+) MiB/s \(([\d.]+) to ([\d.]+)\)$", re.MULTILINE)


def pages(path, mebibytes):
    """Few pages, half of them compressible."""
    with open(path, "wb") as file:
        for number in range(mebibytes * 256):
            file.write(os.urandom(2048) + number.to_bytes(8, "little") * 256)
    return path


def run(bench):
    found = {}
    some = [pages(bench.scratch + "/pages", 32)] if bench.quick else []
    for number in bench.rounds(3, 1):
        text = bench.call("ingest", bench.directory(f"store{number}"), *some)
        for name, *values in LINE.findall(text):
            # Three values of each call: its median and what it lies between.
            found.setdefault(name, []).extend(float(value) for value in values)
    floor = {"clock": found.get("zstd -1 alone"), "CPU": found.get("zstd -1 alone, CPU time")}
    for name, values in found.items():
        if not name.startswith("zstd"):
            by_cpu = "CPU time" in name
            wanted = Target(at_least=0.8, of="floor") if name.startswith("pages") else None
            bench.row(name, "MiB/s", values, floor=floor["CPU" if by_cpu else "clock"], target=wanted)
    bench.note("Generated pages, about as compressible as guest memory; one core.")
