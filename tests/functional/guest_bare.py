#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bare guest answers and verifies its memory, under TCG and, where it works, KVM."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from guest import Guest, ROOT  # noqa: E402


def check(accel):
    with Guest("bare", accel=accel, memory_mib=128, append="rate=1000") as guest:
        guest.start()
        ready_s = guest.wait_ready(30)
        before = int(guest.cmd("written"))
        time.sleep(1)
        assert int(guest.cmd("written")) > before
        assert guest.cmd("nonce") == guest.cmd("nonce")
        longest, second = map(int, guest.cmd("m").split())
        assert longest >= second > 0, (longest, second)
        guest.cmd("pause")
        guest.cmd("m")
        assert guest.cmd("m") == "0 0", "nothing was written meanwhile"
        guest.cmd("run")
        assert len(guest.cmd("t 50").split()) == 50
        answer = guest.cmd("verify", timeout_s=60)
        assert answer.startswith("ok pages=") and int(answer[9:]) > 20000, answer
        print(f"# {accel}: up after {ready_s:.1f} s")


check("tcg")
print("ok 1 - bare guest under TCG")
if "bare=yes" in subprocess.check_output([ROOT + "/scripts/kvm-probe", "bare"], text=True):
    check("kvm")
    print("ok 2 - bare guest under KVM")
else:
    print("ok 2 - bare guest under KVM # SKIP scripts/kvm-probe: KVM does not run it here")
