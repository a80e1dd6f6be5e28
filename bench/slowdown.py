# SPDX-License-Identifier: LGPL-2.1-or-later
"""Slowdown of the guest under protection.

Measured: work done a second inside the guest while checkpoints are taken each second and each 100 ms: pages rewritten by a loop
that does nothing else (64 MiB, all of it dirty in every epoch), and SETs that redis-benchmark gets through, from outside, with 8 clients.
Floor: the same guest and load unprotected, in turn.
Peer: none.
Target: at least 95 % of the unprotected work at 1 s, 85 % at 100 ms.
"""
import csv
import shutil
import subprocess
import time

import frame
from frame import Target
from protected import Protected

INTERVALS = {"1s": Target(at_least=0.95, of="floor"), "100ms": Target(at_least=0.85, of="floor")}


def run(bench):
    with Protected(bench, guest="linux-small", memory_mib=256) as machine:
        machine.load(64, 1_000_000)
        compare(bench, machine, "memory-bound loop", "pages/s", lambda: pages_written(machine, 3))
    if not shutil.which("redis-benchmark"):
        bench.note("Redis: redis-benchmark is not installed.")
        return
    with Protected(bench, guest="debian", memory_mib=512, ports=(7, 6379)) as machine:
        requests = 500 if bench.quick else 5000
        compare(bench, machine, "Redis, SET", "requests/s", lambda: redis_sets(machine, requests))


def compare(bench, machine, name, unit, work):
    done = {way: [] for way in ("unprotected", *INTERVALS)}
    for _ in bench.rounds(5, 1):
        machine.protect(False)
        done["unprotected"] += [work(), work()]
        machine.protect(True)
        for interval in INTERVALS:
            machine.site.ctl_text("set", "vm", "interval=" + interval)
            time.sleep(2)
            done[interval] += [work(), work()]
    for interval, target in INTERVALS.items():
        bench.row(f"{name}, every {interval}", unit, done[interval], floor=done["unprotected"], target=target)


def pages_written(machine, seconds):
    """`written` answers "pages=N blocks=N"."""
    def total():
        return int("".join(c for c in machine.guest.cmd("written", timeout_s=60).split()[0] if c.isdigit()))
    before, start = total(), time.monotonic()
    time.sleep(seconds)
    return (total() - before) / (time.monotonic() - start)


def redis_sets(machine, requests):
    done = subprocess.run(["redis-benchmark", "-p", str(machine.guest.forwards[6379]), "-t", "set", "-n", str(requests), "-c", "8",
                           "-r", "10000", "-d", "100", "--csv"], capture_output=True, text=True, timeout=600, check=False)
    rows = [row for row in csv.reader(done.stdout.splitlines()) if row and row[0] == "SET"]
    if done.returncode != 0 or not rows:
        raise frame.Skip(f"redis-benchmark: {done.stderr.strip() or done.stdout.strip()}")
    return float(rows[0][1])
