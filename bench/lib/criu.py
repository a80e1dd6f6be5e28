# SPDX-License-Identifier: LGPL-2.1-or-later
"""CRIU: a process is taken away into files and brought back lazily from them."""
import os
import shutil
import signal
import subprocess
import time

from ckpt_site import alive, start_time, wait_until


def why_not():
    """What keeps it from working here; empty: it works."""
    if not shutil.which("criu"):
        return "not installed (scripts/install-packages bench)"
    if os.geteuid() != 0:
        return "needs root"
    done = subprocess.run(["criu", "check"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return ""
    version = subprocess.run(["criu", "--version"], capture_output=True, text=True, check=False).stdout.split()
    # The first of its errors is the cause of the others.
    error = next((line for line in done.stderr.splitlines() if line.startswith("Error")), f"exit {done.returncode}")
    return f"version {version[1] if len(version) > 1 else '?'} does not run on kernel {os.uname().release} ('criu check': {error})"


def lazy_waits(bench, images, threads, count):
    """How long the threads of a process waited for missing pages after `criu restore --lazy-pages`; the daemon fetches the rest
    from files of the same host meanwhile."""
    directory = bench.directory(f"criu-{time.monotonic_ns()}")
    out = directory + "/waits"
    # Nothing of ours is open in it, and it leads its session: what is left is what a server is.
    process = subprocess.Popen([bench.program("faults"), "process", images, str(threads), str(count), out], stdin=subprocess.DEVNULL,
                               stdout=open(directory + "/said", "wb"), stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
    try:
        wait_until(lambda: process.poll() is not None or os.path.getsize(directory + "/said"), 60, "the process to be ready")
        call(directory, "dump", "--tree", str(process.pid))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    return bring_back(directory, process.pid, out)


def bring_back(directory, pid, out):
    with open(directory + "/lazy-pages.out", "wb") as log:
        daemon = subprocess.Popen(["criu", "lazy-pages", "--images-dir", directory, "--work-dir", directory], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: daemon.poll() is not None or os.path.exists(directory + "/lazy-pages.socket"), 30, "criu lazy-pages to listen")
        call(directory, "restore", "--lazy-pages", "--restore-detached")
        return waits_of(pid, out)
    finally:
        if daemon.poll() is None:
            daemon.terminate()
        daemon.wait()


def waits_of(pid, out):
    """Of a process that is no child of ours, but has the number that it had."""
    started = start_time(pid)
    try:
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda: os.path.exists(out) or not alive(pid), 120, "the restored process to have touched its memory")
        with open(out, encoding="ascii") as file:
            return [float(line) for line in file]
    finally:
        if alive(pid) and start_time(pid) == started:
            os.kill(pid, signal.SIGKILL)


def call(directory, what, *arguments):
    log = f"{directory}/{what}.log"
    done = subprocess.run(["criu", what, "--images-dir", directory, "--work-dir", directory, "--log-file", log, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, check=False)
    if done.returncode == 0:
        return
    with open(log, encoding="utf-8", errors="replace") as file:
        errors = [line.strip() for line in file if "Error" in line]
    raise RuntimeError(f"criu {what}: exit {done.returncode}: {errors[0] if errors else done.stderr.strip()}")
