#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The small Linux guest boots, answers on both ways, and its oracle holds under load."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from guest import Guest  # noqa: E402

with Guest("linux-small") as guest:
    guest.start()
    print(f"up after {guest.wait_ready():.1f} s")
    assert guest.cmd("load 32 1000 50") == "ok"
    before = int(guest.cmd("counter"))
    time.sleep(2)
    assert int(guest.cmd("counter")) > before
    assert guest.cmd("nonce") == guest.tcp_cmd("nonce")
    answer = guest.cmd("verify", timeout_s=60)
    print(answer, "written:", guest.cmd("written"))
    assert answer.startswith("ok pages=8192 blocks=") and not answer.endswith("blocks=0")
