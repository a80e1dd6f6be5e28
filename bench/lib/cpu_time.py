# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPU time of processes and of their threads, as the kernel counts it."""
import os

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def of_file(path):
    """Seconds, in user mode and in the kernel; a thread that has ended meanwhile has none."""
    try:
        with open(path, encoding="ascii", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def of_process(pid):
    """With its threads that have ended."""
    return of_file(f"/proc/{pid}/stat")


def of_threads(pid, threads):
    return sum(of_file(f"/proc/{pid}/task/{thread}/stat") for thread in threads)
