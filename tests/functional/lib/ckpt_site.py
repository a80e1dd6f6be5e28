# SPDX-License-Identifier: LGPL-2.1-or-later
"""A ckptd with a store and a run directory of its own, and guests that it protects.

    from ckpt_site import Site
    with Site() as site:
        site.start()
        site.ctl("status")
        guest = Guest("linux-small", directory=site.directory)
        site.run(guest, "vm1")            # ckptctl run: QEMU under protection
        site.wait_checkpoints("vm1", 3)
        site.kill(guest)                  # the host dies
        site.restore(guest, "vm1")        # ckptctl restore, the same Guest talks to it

Programs come from $CKPT_BUILD (default: build/ of the checkout).
Only processes that were started here, or that a restore has recorded, are ended, by their ids.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import guest as guests

ROOT = guests.ROOT
BUILD = os.environ.get("CKPT_BUILD", ROOT + "/build")


class CtlError(Exception):
    """ckptctl ended with an error; `code` is its exit status."""

    def __init__(self, arguments, code, text):
        super().__init__(f"ckptctl {' '.join(arguments)}: exit {code}: {text}")
        self.code, self.text = code, text


class Machine:
    """Stands for QEMU's process in a Guest after a restore: it is no child of ours."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if alive(self.pid) else 0

    def send_signal(self, number):
        if alive(self.pid):
            os.kill(self.pid, number)

    def wait(self):
        wait_until(lambda: not alive(self.pid), 30, f"process {self.pid} to end")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def start_time(pid):
    """Tells a process from a later one with its number; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return int(stat.read().rsplit(")", 1)[1].split()[19])
    except OSError:
        return None


def wait_until(condition, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.05)


class Site:
    def __init__(self, interval="1s", retention="all", directory=None, store=None):
        self.own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="ckpt-site-")
        self.store = store or self.directory + "/store"
        self.run_dir = self.directory + "/run"
        self.interval, self.retention = interval, retention
        self.process = None
        self.others = []

    def start(self, arguments=()):
        self.log = open(self.directory + "/ckptd.log", "ab")
        self.process = subprocess.Popen(
            [BUILD + "/ckptd/ckptd", "--store", self.store, "--run-dir", self.run_dir, "--state-dir", self.directory + "/state", "--interval", self.interval,
             "--retention", self.retention, *arguments], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until(lambda: self.process.poll() is not None or self.answers(), 30, "ckptd to answer")
        if self.process.poll() is not None:
            raise RuntimeError(f"ckptd ended: {self.log_text()}")
        return self

    def answers(self):
        try:
            self.ctl("status")
            return True
        except CtlError:
            return False

    def log_size(self):
        return os.path.getsize(self.directory + "/ckptd.log")

    def log_text(self, since=0):
        """The end of what was written after so many bytes."""
        with open(self.directory + "/ckptd.log", "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")[-4000:]

    def stop(self, number=signal.SIGTERM, timeout_s=None):
        """Asked to end it must end well: a sanitizer's complaint is an exit status too."""
        if not self.process:
            return
        process, self.process = self.process, None
        process.send_signal(number)
        process.wait(timeout_s)
        self.log.close()
        if number == signal.SIGTERM and process.returncode != 0:
            raise RuntimeError(f"ckptd ended with {process.returncode}: {self.log_text()}")

    def command(self, *arguments):
        return [BUILD + "/ckptd/ckptctl", "--run-dir", self.run_dir, *arguments]

    def ctl_text(self, *arguments, timeout_s=120):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise CtlError(arguments, done.returncode, done.stderr.strip())
        return done.stdout

    def ctl(self, *arguments, timeout_s=120):
        """ckptctl's answer as an object."""
        return json.loads(self.ctl_text("--json", *arguments, timeout_s=timeout_s))

    def machine(self, name):
        return next(m for m in self.ctl("status", name)["machines"] if m["name"] == name)

    def checkpoints(self, name):
        return self.ctl("list", name)["checkpoints"]

    def wait_state(self, name, state, timeout_s=60):
        return wait_until(lambda: (m := self.machine(name))["state"] == state and m, timeout_s, f"{name} to be {state}: {self.log_text()}")

    def wait_checkpoints(self, name, count, timeout_s=120):
        """Until so many more epochs of this ckptd are durable."""
        goal = self.machine(name)["epochs_total"] + count
        return wait_until(lambda: (m := self.machine(name))["epochs_total"] >= goal and m, timeout_s,
                          f"{count} checkpoints of {name}: {self.log_text()}")

    def restore_of(self, name):
        return next(r for r in self.ctl("restores", name)["restores"])

    def run(self, guest, name, options=(), ports=(7,)):
        """Starts the guest's QEMU through `ckptctl run`."""
        guest.log = open(guest.path("qemu.log"), "ab")
        guest.process = subprocess.Popen(self.command("run", name, *options, "--", *guest.command_line(ports)),
                                         stdin=subprocess.DEVNULL, stdout=guest.log, stderr=guest.log)
        try:
            guest.qmp_connection = guests.Qmp(guest.path("qmp.sock"))
        except OSError as error:
            raise RuntimeError(f"QEMU did not start: {guest.qemu_log()}") from error
        return guest

    def restore(self, guest, point, options=(), timeout_s=120):
        """Restores; the Guest talks to the restored machine from now on. The answer of ckptctl."""
        answer = self.ctl("restore", point, *options, timeout_s=timeout_s)
        guest.log = open(guest.path("qemu.log"), "ab")
        guest.process = Machine(answer["qemu_pid"])
        self.adopt(answer["qemu_pid"])
        guest.qmp_connection = guests.Qmp(guest.path("qmp.sock"))
        return answer

    def adopt(self, pid):
        """A process that is ended with the site, although it is no child of ours."""
        self.others.append((pid, start_time(pid)))

    def close(self):
        recorded = list(self.others)
        base = self.run_dir + "/restore"
        for name in os.listdir(base) if os.path.isdir(base) else []:
            try:
                with open(f"{base}/{name}/state.json", encoding="utf-8") as file:
                    state = json.load(file)
            except (OSError, ValueError):
                continue
            processes = [state["qemu"], state["agent"]] + [disk["server"] for disk in state["disks"]]
            recorded += [(process["pid"], process.get("start_time")) for process in processes]
        try:
            self.stop()
        finally:
            for pid, started in recorded:
                if pid > 1 and alive(pid) and start_time(pid) == started:
                    os.kill(pid, signal.SIGKILL)
            if self.own_directory:
                shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
