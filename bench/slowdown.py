# SPDX-License-Identifier: LGPL-2.1-or-later
"""Slowdown of the guest under protection.

Row: 3.
Measured: work done a second inside the guest while checkpoints are taken each second and each 100 ms: pages rewritten by a loop
that does nothing else (64 MiB, all of it dirty in every epoch); SETs that redis-benchmark gets through, from outside, with 8 clients;
transactions of PostgreSQL, by pgbench inside the guest with 4 clients; builds of a program of five files by GCC, begun by SSH.
Floor: the same guest and load unprotected, in turn.
Peer: none: nothing else captures a machine continuously; how long QEMU's own snapshots stop one is in "Guest pause per epoch".
Target: at least 95 % of the unprotected work at 1 s, 85 % at 100 ms.
"""
import csv
import dataclasses
import re
import shutil
import subprocess
import time
import typing

import frame
from frame import Target
from protected import Protected
from tools import Tools, shell, wait_shell

GUESTS = ("tools",)
INTERVALS = {"1s": Target(at_least=0.95, of="floor"), "100ms": Target(at_least=0.85, of="floor")}
PGBENCH = "$(echo /usr/lib/postgresql/*/bin/pgbench) -h 127.0.0.1"


@dataclasses.dataclass
class Load:
    name: str
    unit: str
    times: int  # in a row
    work: typing.Callable
    done: dict = dataclasses.field(default_factory=dict)  # by interval, "": unprotected

    def measure(self, way):
        self.done.setdefault(way, []).extend(self.work() for _ in range(self.times))


def run(bench):
    with Protected(bench, guest="linux-small", memory_mib=256) as machine:
        machine.load(64, 1_000_000)
        compare(bench, machine, [Load("memory-bound loop", "pages/s", 2, lambda: pages_written(machine, 2))])
    bench.if_missed("A page that is written for the first time in an epoch costs a look at the dirty log (under TCG in the guest's own code), and is copied; ckptd "
                    "compresses it on a CPU that the guest could use, where there are only two; next: the share of each, by perf, and the vCPU's first.")
    tools = Tools(bench)
    with Protected(bench, memory_mib=512, ports=(7, 22, 5432, 6379), **tools.machine) as machine:
        compare(bench, machine, services(bench, machine.guest, tools))


def services(bench, guest, tools):
    loads = []
    if shutil.which("redis-benchmark"):
        loads.append(Load("Redis, SET", "requests/s", 2, lambda: redis_sets(guest, 500 if bench.quick else 3000)))
    else:
        bench.note("Redis: redis-benchmark is not installed.")
    wait_shell(guest)
    shell(guest, f"{PGBENCH} -i -q >/dev/null 2>&1")
    loads.append(Load("PostgreSQL, pgbench", "transactions/s", 2, lambda: pgbench_transactions(guest, 2)))
    # What it reads is in the page cache, as in a long build.
    tools.build(guest)
    loads.append(Load("GCC", "builds/min", 1, lambda: 60 / tools.build(guest)))
    return loads


def compare(bench, machine, loads):
    """Each load alone; between protected and unprotected they change together, which takes a full copy."""
    for _ in bench.rounds(3, 1):
        machine.protect(False)
        for load in loads:
            load.measure("")
        machine.protect(True)
        for interval in INTERVALS:
            machine.site.ctl_text("set", "vm", "interval=" + interval)
            time.sleep(1)
            for load in loads:
                load.measure(interval)
    for load in loads:
        for interval, target in INTERVALS.items():
            bench.row(f"{load.name}, every {interval}", load.unit, load.done[interval], floor=load.done[""], target=target)


def pages_written(machine, seconds):
    """`written` answers "pages=N blocks=N"."""
    def total():
        return int("".join(c for c in machine.guest.cmd("written", timeout_s=60).split()[0] if c.isdigit()))
    before, start = total(), time.monotonic()
    time.sleep(seconds)
    return (total() - before) / (time.monotonic() - start)


def redis_sets(guest, requests):
    done = subprocess.run(["redis-benchmark", "-p", str(guest.forwards[6379]), "-t", "set", "-n", str(requests), "-c", "8",
                           "-r", "10000", "-d", "100", "--csv"], capture_output=True, text=True, timeout=600, check=False)
    rows = [row for row in csv.reader(done.stdout.splitlines()) if row and row[0] == "SET"]
    if done.returncode != 0 or not rows:
        raise frame.Skip(f"redis-benchmark: {done.stderr.strip() or done.stdout.strip()}")
    return float(rows[0][1])


def pgbench_transactions(guest, seconds):
    said = shell(guest, f"{PGBENCH} -n -c 4 -T {seconds} 2>&1")
    found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    if not found:
        raise frame.Skip(f"pgbench: {said}")
    return float(found.group(1))
