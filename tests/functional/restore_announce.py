#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A restored machine announces its address on the wire by itself: on a tap in a network namespace of the test's own, QEMU's RARP tells
switches where the MAC address is now, and the guest's gratuitous ARP tells neighbours."""
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import Site, wait_until  # noqa: E402
from guest import Guest  # noqa: E402

MAC = bytes.fromhex("52540012ab77")
ADDRESS = socket.inet_aton("10.0.2.15")
RARP, ARP = b"\x80\x35", b"\x08\x06"


def enter_namespace():
    if os.environ.get("CKPT_IN_NAMESPACE"):
        return
    if subprocess.run(["unshare", "--net", "ip", "tuntap", "add", "dev", "ckpt0", "mode", "tap"], capture_output=True, check=False).returncode:
        print("no right to make a network namespace with a tap in it")
        sys.exit(77)
    os.environ["CKPT_IN_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.argv[0]])


def make_tap():
    for words in ("link set lo up", "tuntap add dev ckpt0 mode tap", "link set ckpt0 up"):
        subprocess.check_call(["ip", *words.split()])
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind(("ckpt0", 0))
    wire.setblocking(False)
    return wire


def announcements(wire):
    """(RARPs, gratuitous ARPs) of the guest that have come since the last look."""
    rarps = arps = 0
    while True:
        try:
            frame = wire.recv(2048)
        except BlockingIOError:
            return rarps, arps
        if frame[6:12] != MAC or frame[:6] != b"\xff" * 6:
            continue
        rarps += frame[12:14] == RARP and frame[22:28] == MAC
        arps += frame[12:14] == ARP and frame[28:32] == ADDRESS == frame[38:42]


def main():
    enter_namespace()
    wire = make_tap()
    with Site(interval="500ms") as site, Guest("linux-small", directory=site.directory, net=False) as guest:
        plain = guest.command_line
        guest.command_line = lambda ports=(7,): plain(ports) + [
            "-netdev", "tap,id=net0,ifname=ckpt0,script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net0,mac={MAC.hex(':')}"]
        site.start()
        site.run(guest, "vm")
        guest.wait_ready()
        site.wait_checkpoints("vm", 3)
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 30, "ckptd to notice")
        announcements(wire)
        assert announcements(wire) == (0, 0)
        site.restore(guest, "vm")
        seen = [0, 0]

        def both():
            for i, count in enumerate(announcements(wire)):
                seen[i] += count
            return all(seen)

        wait_until(both, 30, f"RARP and gratuitous ARP on the wire, not only {seen}")
        time.sleep(2)
        both()
        assert seen[0] > 1, f"announced once only, which a lost frame undoes: {seen}"
        print(f"{seen[0]} RARPs and {seen[1]} gratuitous ARPs")


main()
