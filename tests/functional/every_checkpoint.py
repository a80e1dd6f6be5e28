#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""A loaded guest is lost; at every checkpoint that was kept it is restored, and the oracle holds: the same boot, the counter
of that instant and no later one, memory and disk as the guest wrote them. CKPT_CHECKPOINTS: how many (default 12)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import Site  # noqa: E402
from guest import Guest  # noqa: E402
from oracle import Pulse, Tap, disconnected, judge  # noqa: E402

WANTED = int(os.environ.get("CKPT_CHECKPOINTS", "12"))


def capture(site, guest):
    """Protects the guest under load; returns its nonce, its samples and the checkpoints, and the guest is lost."""
    site.run(guest, "vm")
    guest.wait_ready()
    nonce = guest.cmd("nonce")
    assert guest.cmd("load 32 1000 40") == "ok"
    pulse = Pulse(guest)
    pulse.start()
    # Older ones hold the firmware or a kernel that boots: nothing to hold an oracle against.
    site.wait_checkpoints("vm", 1)
    first = site.checkpoints("vm")[-1]["number"] + 1
    site.wait_checkpoints("vm", WANTED, 60 + 10 * WANTED)
    guest.kill()
    disconnected(site, "vm")
    pulse.stop()
    return nonce, pulse, [c for c in site.checkpoints("vm") if c["number"] >= first], first


def at_one(site, guest, checkpoint, nonce, bounds, name):
    answer = site.restore(guest, f"vm@{checkpoint['number']}", ["--mode", "lazy", "--as", name])
    try:
        text = judge(site, guest, name, nonce, *bounds)
    finally:
        guest.kill()
        disconnected(site, name)
    return f"as {name}, guest ran after {answer['running_ms']} ms; {text}"


def main():
    tap = Tap()
    with Site(interval="1s") as site, Guest("linux-small", memory_mib=192, directory=site.directory) as guest:
        site.start()
        nonce, pulse, kept, first = capture(site, guest)
        tap.ok(len(kept) >= WANTED, f"{len(kept)} checkpoints under load, the first vm@{first}")
        lows = [pulse.counter_at(c["wall_clock_ns"] / 1e9)[0] for c in kept]
        tap.ok(all(a < b for a, b in zip(lows, lows[1:])), "the guest's counter tells them apart", lows)
        # From the newest to the oldest: going back is the harder way, and the same name makes its chain branch.
        for checkpoint in reversed(kept):
            bounds = pulse.counter_at(checkpoint["wall_clock_ns"] / 1e9)
            name = "vm" if checkpoint["number"] % 2 else f"copy{checkpoint['number']}"
            if not tap.case(f"vm@{checkpoint['number']} restored", at_one, site, guest, checkpoint, nonce, bounds, name):
                print("# " + site.log_text().replace("\n", "\n# "))
        left = {c["number"] for c in site.checkpoints("vm")}
        tap.ok(left >= {c["number"] for c in kept}, "each is still there after all the restores")
        tap.ok((damage := site.ctl("verify", timeout_s=300)["damage"]) == [], "the store reads back whole", damage or "")
    tap.end()


main()
