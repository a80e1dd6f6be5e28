# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prefetch.

Measured: all of a real guest's memory brought by restore-agent from a local store at full speed, from READY to DONE, per byte
of data (zero pages are left to the kernel); the content is compared afterwards.
Floor: the fastest way found in this run to fill as many bytes with UFFDIO_COPY from a source that lies in the cache: calls of 64 KiB to
4 MiB, one thread and two.
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
        ours = {"full": [], "aggressive": []}
        for _ in bench.rounds(7, 2):
            for (call, threads), values in raw.items():
                seconds = float(bench.call("raw_memory", "fill", saved.data_bytes, call, threads))
                values.append(saved.data_bytes / 1e9 / seconds)
            for mode, values in ours.items():
                with saved.agent(mode) as agent:
                    seconds, data = map(float, bench.call("faults", "fill", agent.socket, saved.images).split())
                values.append(data / 1e9 / seconds)
    call, threads = max(raw, key=lambda way: stats.median(raw[way]))
    name = f"UFFDIO_COPY by {call} KiB, {threads} thread{'s' if threads > 1 else ''}"
    for mode, values in ours.items():
        bench.row(f"{mode}; floor: {name}", "GB/s", values, floor=raw[call, threads],
                  target=Target(at_least=0.9, of="floor"))
    bench.plot("Filling missing memory with UFFDIO_COPY", "KiB a call", "GB/s",
               {f"raw, {count} thread{'s' if count > 1 else ''}": [(size, stats.median(raw[size, count])) for size in CALLS_KIB]
                for count in (1, 2)}, log_x=True)
    bench.note("Ours reads and decompresses what the floor has in the cache: with one thread for both, the floor cannot be reached; "
               "next: decompress on one core while the other fills.")
