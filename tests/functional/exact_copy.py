#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""A machine is stopped, a checkpoint is taken, the machine is lost and restored in full: its memory, block by block, and its disks
equal the original's byte for byte. Then it goes on, and the oracle holds."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import Site, wait_until  # noqa: E402
from fake_agent import ram_blocks, read_ram  # noqa: E402
from guest import Guest, qemu_dir  # noqa: E402
from oracle import Tap, disconnected  # noqa: E402

PAGE = 4096
# Size of the guest's main memory, as QMP's own way out of QEMU sees it.
MAIN_BLOCK = "pc.ram"


def differences(one, other, unit=PAGE):
    """How many pages differ, and the first of them."""
    if one == other:
        return ""
    places = [i for i in range(0, max(len(one), len(other)), unit) if one[i:i + unit] != other[i:i + unit]]
    return f"sizes {len(one)} and {len(other)}, {len(places)} of {len(one) // unit} pages differ, first at {places[:8]}"


def physical_memory(guest, size):
    """QMP's pmemsave of the guest's memory below the hole."""
    path = guest.path("pmem")
    guest.qmp("pmemsave", val=0, size=size, filename=path, timeout_s=120)
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    return content


def raw(guest, path, disk_format):
    """The bytes that a guest sees on a disk."""
    copy = guest.path("compare.raw")
    subprocess.run([qemu_dir() + "/qemu-img", "convert", "-U", "-f", disk_format, "-O", "raw", path, copy], check=True, timeout=120)
    with open(copy, "rb") as file:
        content = file.read()
    os.unlink(copy)
    return content


def fill(directory, disks):
    """Disks with something on them from the start."""
    made = []
    for number, disk_format in enumerate(disks):
        path = f"{directory}/disk{number}.{disk_format}"
        with open(path + ".raw", "wb") as file:
            file.write(os.urandom(3 << 20))
            file.truncate((48 + 16 * number) << 20)
        subprocess.run([qemu_dir() + "/qemu-img", "convert", "-f", "raw", "-O", disk_format, path + ".raw", path], check=True, timeout=60)
        os.unlink(path + ".raw")
        made.append((path, disk_format))
    return made


def original(site, guest, options):
    """Stops it at a checkpoint and ends it; what it was."""
    site.run(guest, "vm", options)
    guest.wait_ready()
    assert guest.cmd("load 48 2000 60") == "ok"
    site.wait_state("vm", "capturing")
    site.wait_checkpoints("vm", 3)
    nonce, counter = guest.cmd("nonce"), int(guest.cmd("counter"))
    guest.qmp("stop")
    point = site.ctl("checkpoint", "vm", "--name", "stopped")["checkpoint"]
    small = min(guest.memory_mib, 64) << 20
    saved = {"nonce": nonce, "counter": counter, "number": point["number"], "ram": read_ram(guest), "pmem": physical_memory(guest, small)}
    saved["disks"] = [raw(guest, path, disk_format) for path, disk_format in guest.disks]
    guest.kill()
    disconnected(site, "vm")
    # The originals are gone with the host: nothing can be copied from them.
    for path, _ in guest.disks:
        shutil.move(path, path + ".lost")
    return saved


def wait_local(site, timeout_s=120):
    restore = wait_until(lambda: (r := site.restore_of("vm"))["phase"] in ("local", "failed", "ended") and r, timeout_s,
                         "all to be local")
    assert restore["phase"] == "local", restore
    return restore


def compare(tap, title, site, guest, saved):
    answer = site.restore(guest, "vm@stopped", ["--mode", "full"])
    tap.ok((status := guest.qmp("query-status")["status"]) in ("paused", "prelaunch"), f"{title}: it stands still as it did", status)
    restore = wait_local(site)
    ram = read_ram(guest)
    tap.ok(sorted(ram) == sorted(saved["ram"]), f"{title}: it has the same RAM blocks", " ".join(sorted(ram_blocks(guest))))
    for name, content in saved["ram"].items():
        tap.ok(not (wrong := differences(content, ram.get(name, b""))), f"{title}: RAM block {name}, {len(content) >> 10} KiB, is the same", wrong)
    again = physical_memory(guest, len(saved["pmem"]))
    tap.ok(not (wrong := differences(saved["pmem"], again)), f"{title}: pmemsave reads the same", wrong)
    if MAIN_BLOCK in saved["ram"]:
        tap.ok(saved["pmem"][1 << 20:] == saved["ram"][MAIN_BLOCK][1 << 20:len(saved["pmem"])],
               f"{title}: and that is the memory that was compared")
    tap.ok(len(restore["disks"]) == len(saved["disks"]), f"{title}: it has the same number of disks", len(restore["disks"]))
    for number, (disk, content) in enumerate(zip(restore["disks"], saved["disks"])):
        guest.qmp("human-monitor-command", **{"command-line": f"qemu-io disk{number} flush"})
        wrong = differences(content, raw(guest, disk["overlay"], "qcow2"))
        tap.ok(not wrong, f"{title}: disk {disk['name']}, {len(content) >> 20} MiB, is the same", wrong)
    return answer


def goes_on(site, guest, saved):
    guest.qmp("cont")
    guest.wait_ready(60)
    assert guest.cmd("nonce") == saved["nonce"]
    assert int(guest.cmd("counter")) >= saved["counter"]
    verified = guest.cmd("verify", timeout_s=180)
    assert verified.startswith("ok"), verified
    site.wait_checkpoints("vm", 2)
    return verified


def machine(tap, title, disks, **how):
    with Site(interval="500ms") as site:
        site.start()
        with Guest("linux-small", directory=site.directory, disks=fill(site.directory, disks), **how) as guest:
            try:
                saved = original(site, guest, ())
                compare(tap, title, site, guest, saved)
            except Exception:
                print(f"# ckptd {site.process.poll()}: " + site.log_text()[-1500:].replace("\n", "\n# "), flush=True)
                raise
            tap.case(f"{title}: it goes on, and is protected", goes_on, site, guest, saved)


def main():
    tap = Tap()
    for title, disks, how in (("q35, raw disk", ["raw"], {"memory_mib": 192}),
                              ("pc, 2 vCPUs, qcow2 and raw disks", ["qcow2", "raw"], {"memory_mib": 256, "machine": "pc", "cpus": 2})):
        try:
            machine(tap, title, disks, **how)
        except Exception as error:  # pylint: disable=broad-except
            tap.ok(False, title, f"{type(error).__name__}: {error}")
    tap.end()


main()
