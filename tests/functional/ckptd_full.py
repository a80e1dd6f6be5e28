#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store's disk fills up while a machine is captured: capture stops with a clear state, older points stay whole, and it resumes
alone when there is room."""
import os
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, Site, wait_until  # noqa: E402


class Machine(threading.Thread):
    """A generated machine that comes back when it was refused, as QEMU does."""

    def __init__(self, socket):
        super().__init__(daemon=True)
        self.socket, self.over, self.process = socket, threading.Event(), None

    def run(self):
        while not self.over.is_set():
            self.process = subprocess.Popen([BUILD + "/tests/tools/stream_gen", "--epochs", "0", "--ram", "16", "--disk", "0", "--dirty", "500",
                                             "--compressible", "0", self.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.process.wait()
            self.over.wait(0.2)

    def end(self):
        self.over.set()
        if self.process:
            self.process.kill()
        self.join()


def numbers(site):
    return [c["number"] for c in site.checkpoints("vm")]


def fill_and_resume(site, ballast):
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 230 << 20)
    site.ctl("protect", "vm")
    machine = Machine(site.run_dir + "/vm.sock")
    machine.start()
    try:
        full = site.wait_state("vm", "store full", 90)
        print("full:", full["reason"][:200])
        kept = numbers(site)
        assert kept, "nothing was kept"
        assert site.ctl("verify", "vm")["damage"] == []
        assert site.machine("vm")["state"] == "store full"
        os.unlink(ballast)
        after = wait_until(lambda: len(n := numbers(site)) > len(kept) + 2 and n, 60, f"capture to resume: {site.log_text()}")
        assert after[:len(kept)] == kept
        assert site.ctl("verify", "vm")["damage"] == []
        print(f"{len(kept)} checkpoints before it was full, {len(after)} now")
    except BaseException:
        print(site.log_text())
        raise
    finally:
        machine.end()


place = tempfile.mkdtemp(prefix="ckpt-full-")
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", place], check=False, stderr=subprocess.DEVNULL).returncode != 0:
    os.rmdir(place)
    print("needs the right to mount a tmpfs")
    sys.exit(77)
try:
    with Site(interval="100ms", store=place + "/store") as shared:
        shared.start()
        fill_and_resume(shared, place + "/ballast")
finally:
    subprocess.run(["umount", "-l", place], check=True)
    os.rmdir(place)
