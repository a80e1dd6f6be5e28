#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""What a QEMU says it was restored from counts only with the secret of a restore that ckptd began for that machine from exactly
that checkpoint. Everything else is copied in full, and ckptd says why."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import Site  # noqa: E402
from generator import Generator, ask  # noqa: E402


def play(site, name, base, epochs="2"):
    """The mode that WELCOME said, and the parent of the first checkpoint that was made."""
    known = {c["number"] for c in site.checkpoints(name)}
    code, text = Generator(site, [name], "--epochs", epochs, "--ram", "2", "--disk", "0", *(("--base", base) if base else ())).end()
    assert code == 0, text
    first = next(c for c in site.checkpoints(name) if c["number"] not in known)
    return text.split("welcome mode=")[1].split()[0], first["parent"]


def full(site, name, base, why):
    before = site.log_size()
    assert play(site, name, base) == ("full", None), (name, base)
    assert why in site.log_text(before), site.log_text(before)
    assert site.machine(name)["base"] == ""
    print(f"{name} with base {base[:60]}: a full copy, {why}")


def begin(site, number, name):
    answer = ask(site, verb="restore_begin", machine="a", point=str(number), **{"as": name})
    assert answer["ok"], answer
    machine, secret = answer["base"].rsplit("@", 1)[0].split("/")
    assert machine == "a" and len(secret) == 32 and answer["base"].endswith(f"@{number}"), answer["base"]
    tokens[name] = answer["token"]
    return answer["base"]


def abandon(site, name):
    assert ask(site, verb="restore_abandon", token=tokens[name], **{"as": name})["ok"]


tokens = {}
with Site(interval="50ms") as shared:
    shared.start()
    for machine in ("a", "b", "c", "d"):
        shared.ctl("protect", machine)
    assert play(shared, "a", "", "4") == ("full", None)

    full(shared, "c", "a@2", "no restore onto 'c'")
    granted = begin(shared, 2, "b")
    abandon(shared, "b")
    assert begin(shared, 2, "b") != granted, "a secret that is given twice is none"
    full(shared, "b", granted, "not what the last restore")
    abandon(shared, "b")
    granted = begin(shared, 2, "b")
    full(shared, "b", "a@2", "not what the last restore")
    full(shared, "b", granted.replace("@2", "@3"), "not what the last restore")
    full(shared, "c", granted, "no restore onto 'c'")
    # ckptd may end between the restore's beginning and its QEMU's coming.
    shared.stop(9)
    shared.start()
    assert play(shared, "b", granted) == ("continue", "a@2")
    assert shared.machine("b")["base"] == "a@2"
    full(shared, "b", granted, "another QEMU has come with it")

    # Given up: the secret is worth nothing any more.
    abandon(shared, "b")
    granted = begin(shared, 3, "b")
    abandon(shared, "b")
    full(shared, "b", granted, "no restore onto 'b'")

    # Another checkpoint of that name and number.
    granted = begin(shared, 2, "d")
    shared.ctl("unpin", "a@2", "--holder", "restore:d")
    shared.ctl("forget", "a")
    shared.ctl("protect", "a")
    play(shared, "a", "", "4")
    assert any(c["number"] == 2 for c in shared.checkpoints("a"))
    full(shared, "d", granted, "no longer in the store")
    assert shared.ctl("verify")["damage"] == []
