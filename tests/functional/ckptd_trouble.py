#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""The store goes bad under ckptd: damage that a live machine's newest checkpoint reaches, and a file system that fails while nobody is
connected. Later checkpoints are whole, what can be written again is, and ckptd ends when it is told to. Runs in a mount namespace of its
own."""
import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, wait_until  # noqa: E402
from generator import Generator, ask  # noqa: E402
from own_mounts import in_own_namespace  # noqa: E402

EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


def damage_goes_into_no_later_checkpoint(site):
    """Whatever happens meanwhile to who asked, to what was verified and to ckptd."""
    site.ctl("protect", "vm")
    machine = Generator(site, ["vm"], "--epochs", "0", "--ram", "4", "--disk", "0", "--dirty", "5", "--reconnects", "1000")
    try:
        begun = 0
        for case in (found, found_in_an_old_one, ckptd_ends):
            site.wait_checkpoints("vm", 2)
            path, size = segment(site)
            flip_bits(path, begun)
            last, begun = newest(site), size
            answer = case(site, machine)
            assert answer["damage"] and answer["copied_anew"] == ["vm"], (case.__name__, answer)
            # Not verified before: that would have the copy made again.
            wait_until(lambda n=last: any(c["number"] > n and c["parent"] is None for c in site.checkpoints("vm")), 60,
                       f"a copy of everything: {site.log_text()}")
            answer = verify(site, "vm@latest")
            assert answer["damage"] == [] and answer["copied_anew"] == [], (case.__name__, answer)
            print(f"damage under a live machine, {case.__name__}: copied anew")
    finally:
        machine.kill()


def segment(site):
    """The one that is written to, and its size."""
    folder = site.store + "/segments"
    path = max(f"{folder}/{name}" for name in os.listdir(folder))
    return path, os.path.getsize(path)


def flip_bits(path, begin):
    """In sixteen places of a copy that begins there: some of its pages will have been written anew since."""
    with open(path, "r+b") as file:
        for offset in range(begin + (1 << 19), begin + (3 << 19), 1 << 16):
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))


def newest(site):
    return site.checkpoints("vm")[-1]["number"]


def found(site, _):
    return verify(site)


def found_in_an_old_one(site, _):
    """The newest reaches it too, and nobody asked about that one."""
    return verify(site, f"vm@{newest(site) - 1}")


def ckptd_ends(site, machine):
    """Before anything of the copy has come."""
    machine.process.send_signal(signal.SIGSTOP)
    try:
        answer = verify(site)
        site.stop(signal.SIGKILL)
        site.start()
    finally:
        machine.process.send_signal(signal.SIGCONT)
    return answer


def verify(site, point="vm"):
    """Its document; what it says of damage has an exit status of its own."""
    done = subprocess.run(site.command("--json", "verify", point), capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout)


def mount_volume(site):
    subprocess.run(["mount", "-o", "loop", site.directory + "/image", site.store], check=True)


def fail_volume(site):
    """From now on each write to it is an I/O error."""
    folder = os.open(site.store, os.O_RDONLY)
    fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(folder)


def writes(site):
    try:
        site.ctl("pin", "vm@1", "--holder", str(time.monotonic_ns()))
        return True
    except CtlError:
        return False


def said_since_serving(site, words):
    return words in site.log_text().rsplit(" serves ", 1)[-1]


def nobody_is_connected(site):
    """A pin finds the failure; it works again when the file system does, with no machine to notice anything."""
    fail_volume(site)
    assert not writes(site)
    wait_until(lambda: said_since_serving(site, "starting again: the store must be opened again"), 30, f"ckptd to start again: {site.log_text()}")
    wait_until(lambda: said_since_serving(site, "waiting:"), 30, f"ckptd to wait for its store: {site.log_text()}")
    subprocess.run(["umount", site.store], check=True)
    mount_volume(site)
    wait_until(lambda: writes(site), 60, f"ckptd to write again: {site.log_text()}")
    print("the store's file system failed, and came back: so did ckptd")


def told_to_end_while_it_starts_again(site):
    """What holds the restart up is a restore whose device state goes where nobody reads."""
    path = site.run_dir + "/restore/copy/device-state"
    os.makedirs(os.path.dirname(path))
    os.mkfifo(path)
    asks = threading.Thread(target=begin_quietly, args=(site,))
    asks.start()
    wait_until(lambda: waits_for_a_reader(site.process.pid), 30, "a restore to begin")
    try:
        fail_volume(site)
        assert not writes(site)
        wait_until(lambda: said_since_serving(site, "starting again"), 30, f"ckptd to start again: {site.log_text()}")
        site.process.send_signal(signal.SIGTERM)
        wait_until(lambda: said_since_serving(site, "stopping: signal"), 30, f"ckptd to hear that it is to end: {site.log_text()}")
    finally:
        with open(path, "rb") as device_state:
            device_state.read()
    asks.join()
    assert site.process.wait(30) == 0, site.log_text()
    assert said_since_serving(site, "stopping: signal"), f"it has served again: {site.log_text()}"
    print("told to end while it was about to start again, ckptd has ended")


def waits_for_a_reader(pid):
    """By where the kernel holds it: before, it still needs the store that is about to fail."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/wchan", encoding="ascii") as where:
            if where.read() == "wait_for_partner":
                return True
    return False


def begin_quietly(site):
    try:
        ask(site, verb="restore_begin", machine="vm", point="latest", **{"as": "copy"})
    except (OSError, ValueError):
        pass  # ckptd ends


in_own_namespace()
with Site(interval="50ms") as shared:
    os.mkdir(shared.store)
    with open(shared.directory + "/image", "wb") as image:
        image.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", shared.directory + "/image"], check=True)
    try:
        mount_volume(shared)
    except subprocess.CalledProcessError:
        print("needs a loop device")
        sys.exit(77)
    shared.start()
    for case in (damage_goes_into_no_later_checkpoint, nobody_is_connected, told_to_end_while_it_starts_again):
        case(shared)
