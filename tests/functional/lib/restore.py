# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stopped guest as a checkpoint in a store, and machines restored from it by restore-agent.

    with Saved(memory_mib=128) as saved:          # boots, loads, stops, stores
        with saved.agent("lazy") as agent, saved.machine() as guest:
            load_devices(guest, saved)
            guest.cmd("verify")
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from ckpt_site import wait_until
from fake_agent import read_ram
from guest import Guest, QmpError

BUILD = os.environ.get("CKPT_BUILD", "build")


def built(name):
    return os.path.join(BUILD, "restore-agent", name)


def load_devices(guest, saved):
    guest.qmp("migrate-incoming", uri=f"exec:cat {saved.directory}/checkpoint/device_state+state")
    wait_until(lambda: guest.qmp("query-migrate").get("status") == "completed", 30, "migrate-incoming")


def wait_state(guest, state):
    return wait_until(lambda: (info := guest.qmp("query-checkpoint-restore"))["state"] == state and info,
                      10, f"state '{state}'")


class Agent:
    """A restore-agent process, started again by hand after kill()."""

    def __init__(self, saved, mode, *more, name="agent"):
        self.directory = saved.directory
        self.socket = f"{saved.directory}/{name}.sock"
        self.status_path = f"{saved.directory}/{name}.json"
        self.argv = [built("restore-agent"), "--store", saved.store, "--checkpoint", saved.checkpoint,
                     "--socket", self.socket, "--status", self.status_path, "--mode", mode, *more]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stderr=open(f"{self.directory}/agent.log", "ab"))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def status(self):
        """What this process says of itself; the file may still hold what a dead one said."""
        try:
            with open(self.status_path) as file:
                status = json.load(file)
        except FileNotFoundError:
            status = {}
        return status if status.get("pid") == self.process.pid else {"state": ""}

    def ask(self, line):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.status_path + ".sock")
            s.sendall(line.encode() + b"\n")
            return json.loads(s.makefile().readline())

    def wait_end(self, timeout_s=60):
        return self.process.wait(timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.kill()


class Saved:
    """Boots linux-small, puts load on it, and keeps it as checkpoints 1 to `epochs` of machine m."""

    def __init__(self, memory_mib=128, epochs=1, load="load 24 2000 20", extra=(), guest="linux-small", **how):
        self.guest_name, self.memory_mib, self.how = guest, memory_mib, how
        self.directory = tempfile.mkdtemp(prefix="ckpt-restore-")
        self.store = self.directory + "/store"
        self.extra = list(extra)
        with Guest(guest, memory_mib=memory_mib, **how) as source:
            source.start(self.extra)
            source.wait_ready()
            assert source.cmd(load) == "ok"
            for _ in range(epochs):
                time.sleep(1.5)
                self.nonce, self.counter = source.cmd("nonce"), int(source.cmd("counter"))
                self._save(source)
        self.disk_bytes = os.path.getsize(f"{self.directory}/checkpoint/disk+disk0")

    def _save(self, source):
        folder = self.directory + "/checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        source.qmp("stop")
        source.qmp("xen-save-devices-state", filename=folder + "/device_state+state", live=True)
        self.ram = read_ram(source)
        for name, content in self.ram.items():
            with open(f"{folder}/ram+{name.replace('/', '%')}", "wb") as file:
                file.write(content)
        shutil.copy(source.disks[0][0], folder + "/disk+disk0")
        try:
            source.qmp("cont")
        except QmpError:  # the disk was given away by saving; once more is enough
            source.qmp("cont")
        self.checkpoint = subprocess.check_output(
            [built("store-from-files"), self.store, "m", folder], text=True).strip()

    def agent(self, mode, *more, name="agent"):
        return Agent(self, mode, *more, name=name)

    def prepared(self, extra=(), disk=None, name="agent", **how):
        """A guest that is not started, and the arguments for it; the disk is a copy unless one is given."""
        if disk is None:
            copy = f"{self.directory}/{name}.raw"
            shutil.copy(f"{self.directory}/checkpoint/disk+disk0", copy)
            disk = (copy, "raw")
        guest = Guest(self.guest_name, disks=[disk], **{"memory_mib": self.memory_mib, **self.how, **how})
        # The stream is of device state only, and QEMU writes no configuration section to it.
        return guest, ["-object", f"checkpoint-restore,id=restore0,path={self.directory}/{name}.sock",
                       "-incoming", "defer", "-global", "migration.send-configuration=off", *self.extra, *extra]

    def machine(self, extra=(), disk=None, name="agent", **how):
        """A QEMU that waits for device state."""
        guest, arguments = self.prepared(extra, disk, name, **how)
        return guest.start(arguments)

    def check(self, guest):
        """The guest is the saved one, went on, and its memory is as it wrote it."""
        answer = guest.cmd("verify", timeout_s=120)
        assert answer.startswith("ok"), answer
        assert guest.cmd("nonce") == self.nonce, "this guest has booted anew"
        assert int(guest.cmd("counter")) > self.counter
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.directory, ignore_errors=True)
