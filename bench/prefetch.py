# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prefetch.

Measured: all of a real guest's memory brought by restore-agent from a local store at full speed, from READY to DONE, per byte
of data (zero pages are left to the kernel); the content is compared afterwards.
Floor: the fastest way found in this run to fill as many bytes with UFFDIO_COPY from a source that lies in the cache: calls of 64 KiB to
4 MiB, one thread and two. Second floor: the same pages lie in memory in frames of four, compressed by zstd -1 as in a store, and are decompressed
and filled by one thread or two.
Peer: none yet (QEMU's migrate from a file with mapped-ram and multifd).
Target: at least 90 % of the floor.
"""
import stats
from frame import Target
from saved_guest import saved_guest

CALLS_KIB = (64, 256, 1024, 4096)


def run(bench):
    with saved_guest(bench, memory_mib=768, load="load 400 2000 0") as saved:
        raw = {(call, threads): [] for call in CALLS_KIB for threads in (1, 2)}
        packed = {(what, threads): [] for what in ("unpack", "unpack-fill") for threads in (1, 2)}
        ours = {"full": [], "aggressive": []}
        for _ in bench.rounds(7, 2):
            for (call, threads), values in raw.items():
                seconds = float(bench.call("raw_memory", "fill", saved.data_bytes, call, threads))
                values.append(saved.data_bytes / 1e9 / seconds)
            for (what, threads), values in packed.items():
                seconds, data = map(float, bench.call("raw_memory", what, saved.images, threads).split())
                values.append(data / 1e9 / seconds)
            for mode, values in ours.items():
                with saved.agent(mode) as agent:
                    seconds, data = map(float, bench.call("faults", "fill", agent.socket, saved.images).split())
                values.append(data / 1e9 / seconds)
    fastest = max(raw, key=lambda way: stats.median(raw[way]))
    name = f"UFFDIO_COPY by {fastest[0]} KiB, {counted(fastest[1])}"
    unpacked = {what: max((1, 2), key=lambda threads: stats.median(packed[what, threads])) for what in ("unpack", "unpack-fill")}
    for mode, values in ours.items():
        bench.row(f"{mode}; floor: {name}", "GB/s", values, floor=raw[fastest],
                  target=Target(at_least=0.9, of="floor"))
        bench.row(f"{mode}; floor: zstd and UFFDIO_COPY, {counted(unpacked['unpack-fill'])}", "GB/s", values,
                  floor=packed["unpack-fill", unpacked["unpack-fill"]])
    bench.row(f"zstd alone, {counted(unpacked['unpack'])}; floor: {name}", "GB/s", packed["unpack", unpacked["unpack"]], floor=raw[fastest])
    bench.plot("Filling missing memory with UFFDIO_COPY", "KiB a call", "GB/s",
               {f"raw, {counted(count)}": [(size, stats.median(raw[size, count])) for size in CALLS_KIB]
                for count in (1, 2)}, log_x=True)
    bench.note("Ours reads, checks and decompresses what the first floor has in the cache; where the CPUs are too few to decompress beside the filling, "
               "the first floor is out of reach, and the second says what is left to win.")


def counted(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"
