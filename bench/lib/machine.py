# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a reader must know of the machine that measured, and how busy it was with other things."""
import os
import platform
import re
import subprocess
import time

import frame


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            match = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1).strip() if match else ""


def revision():
    """The commit, with "+" where the tree differs from it."""
    def git(*arguments):
        return subprocess.run(["git", "-C", frame.ROOT, *arguments], capture_output=True, text=True, check=False).stdout.strip()
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def busy_share(seconds=1.0):
    """Share of all CPUs that others use now, while nothing of ours runs."""
    def ticks():
        with open("/proc/stat", encoding="ascii") as stat:
            values = [int(value) for value in stat.readline().split()[1:9]]
        return sum(values), values[3] + values[4]
    total, idle = ticks()
    time.sleep(seconds)
    total_after, idle_after = ticks()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def describe():
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "revision": revision(),
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$") or platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) / 2**20),
        "kernel": platform.release(),
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
    }


def kvm_works():
    done = subprocess.run([frame.ROOT + "/scripts/kvm-probe", "bare"], capture_output=True, text=True, check=False)
    return "bare=yes" in done.stdout
