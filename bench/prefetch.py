# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prefetch.

Row: 10.
Measured: all of a real guest's memory brought by restore-agent from a local store at full speed, from READY to DONE, per byte
of data (zero pages are left to the kernel); the content is compared afterwards.
Floor: the fastest way found in this run to fill as many bytes from a source that lies in the cache, one thread and two: UFFDIO_COPY by 64 KiB to
4 MiB, UFFDIO_CONTINUE of a file of memory, UFFDIO_COPY into huge pages where some are set aside. Second floor: the same pages lie in memory in
frames of four, compressed by zstd -1 as in a store, and are decompressed and filled by one thread or two.
Peer: such a machine saved by QEMU's own migration to a file (mapped-ram, multifd, 2 channels) and loaded from it, from migrate-incoming until it is
completed, device state included. It is not compressed, and the guest cannot run before all of it is there.
Target: at least 90 % of the floor.
"""
import os
import re
import time

import stats
from frame import Target
from guest import Guest
from saved_guest import load_of, saved_guest

MEMORY_MIB, LOAD = 768, "load 400 2000 0"
CALLS_KIB = (64, 256, 1024, 4096)
HUGE_KIB = 4096  # a call into huge pages
NAMES = {"copy": "UFFDIO_COPY", "continue": "UFFDIO_CONTINUE", "huge": "UFFDIO_COPY into huge pages"}


def run(bench):
    with saved_guest(bench, memory_mib=MEMORY_MIB, load=LOAD) as saved:
        raw = {(way, call, threads): [] for way, call in ways(bench, saved.data_bytes) for threads in (1, 2)}
        packed = {(what, threads): [] for what in ("unpack", "unpack-fill") for threads in (1, 2)}
        ours = {"full": [], "aggressive": []}
        peer = []
        file, file_bytes = mapped_ram(bench)
        for _ in bench.rounds(3, 2):
            for way, values in raw.items():
                seconds = float(bench.call("raw_memory", "fill", way[0], saved.data_bytes, *way[1:]))
                values.append(saved.data_bytes / 1e9 / seconds)
            for (what, threads), values in packed.items():
                seconds, data = map(float, bench.call("raw_memory", what, saved.images, threads).split())
                values.append(data / 1e9 / seconds)
            for mode, values in ours.items():
                with saved.agent(mode) as agent:
                    seconds, data = map(float, bench.call("faults", "fill", agent.socket, saved.images).split())
                values.append(data / 1e9 / seconds)
            peer.append(file_bytes / 1e9 / load_from(bench, file))
    fastest = max(raw, key=lambda way: stats.median(raw[way]))
    name = f"{NAMES[fastest[0]]} by {fastest[1]} KiB, {counted(fastest[2])}"
    unpacked = {what: max((1, 2), key=lambda threads: stats.median(packed[what, threads])) for what in ("unpack", "unpack-fill")}
    for mode, values in ours.items():
        bench.row(f"{mode}; floor: {name}", "GB/s", values, floor=raw[fastest], peer=peer,
                  target=Target(at_least=0.9, of="floor"))
        bench.row(f"{mode}; floor: zstd and UFFDIO_COPY, {counted(unpacked['unpack-fill'])}", "GB/s", values,
                  floor=packed["unpack-fill", unpacked["unpack-fill"]])
    bench.row(f"zstd alone, {counted(unpacked['unpack'])}; floor: {name}", "GB/s", packed["unpack", unpacked["unpack"]], floor=raw[fastest])
    for way in sorted({way for way, *_ in raw}):
        best = max((key for key in raw if key[0] == way), key=lambda key: stats.median(raw[key]))
        if best != fastest:
            bench.row(f"{NAMES[way]} by {best[1]} KiB, {counted(best[2])}; floor: {name}", "GB/s", raw[best], floor=raw[fastest])
    bench.plot("Filling missing memory", "KiB a call", "GB/s",
               {f"{NAMES[way]}, {counted(count)}": [(size, stats.median(raw[way, size, count])) for size in CALLS_KIB]
                for way in ("copy", "continue") for count in (1, 2)}, log_x=True)
    bench.if_missed("Ours reads, checks and decompresses what the first floor has in the cache; where the CPUs are too few to decompress beside the filling, "
                    "the first floor is out of reach, and the second says what is left to win; next: no compression for what the working set needs first.")


def ways(bench, wanted_bytes):
    """Each (way, KiB a call) of raw_memory's that works here."""
    found = [(way, call) for way in ("copy", "continue") for call in CALLS_KIB]
    with open("/proc/meminfo", encoding="ascii") as file:
        free = {name: int(value) for name, value in re.findall(r"^(HugePages_Free|Hugepagesize): +(\d+)", file.read(), re.MULTILINE)}
    if free.get("HugePages_Free", 0) * free.get("Hugepagesize", 0) * 1024 >= wanted_bytes:
        return found + [("huge", HUGE_KIB)]
    bench.note("Huge pages: not measured here, too few are set aside (vm.nr_hugepages).")
    return found


def mapped_ram(bench):
    """Such a machine in a file as QEMU itself saves it: (file, bytes of data)."""
    file = bench.scratch + "/mapped-ram"
    with Guest(bench.options.guest, memory_mib=MEMORY_MIB) as guest:
        guest.start()
        guest.wait_ready()
        assert guest.cmd(load_of(bench, LOAD)) == "ok"
        time.sleep(1.5)
        fast(guest)
        guest.qmp("stop")
        guest.qmp("migrate", uri="file:" + file)
        wait_completed(guest)
    # Pages that are zero are holes.
    return file, os.stat(file).st_blocks * 512


def load_from(bench, file):
    with Guest(bench.options.guest, memory_mib=MEMORY_MIB) as guest:
        guest.start(["-S", "-incoming", "defer"])
        fast(guest)
        start = time.monotonic()
        guest.qmp("migrate-incoming", timeout_s=300, uri="file:" + file)
        wait_completed(guest)
        return time.monotonic() - start


def fast(guest):
    guest.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in ("mapped-ram", "multifd")])
    guest.qmp("migrate-set-parameters", multifd_channels=2, max_bandwidth=1 << 40)


def wait_completed(guest, limit_s=300):
    end = time.monotonic() + limit_s
    # While it loads, QEMU answers nothing.
    while (status := guest.qmp("query-migrate", timeout_s=limit_s)).get("status") != "completed":
        if status.get("status") == "failed" or time.monotonic() > end:
            raise RuntimeError(f"the migration is not completed: {status}")
        time.sleep(0.005)


def counted(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"
