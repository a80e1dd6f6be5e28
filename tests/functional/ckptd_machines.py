#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many machines at once without QEMU: capture, pace, misbehaving clients, two with one name, restarts of ckptd, names, pins,
retention while capturing, verify."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, wait_until  # noqa: E402
from generator import Generator  # noqa: E402


def refused(site, code, *arguments):
    try:
        site.ctl_text(*arguments)
    except CtlError as error:
        assert error.code == code, error
        return error.text
    raise AssertionError(f"{arguments} was not refused")


def numbers(site, name):
    return [c["number"] for c in site.checkpoints(name)]


def many_at_once(site):
    names = [f"gen{i}" for i in range(8)]
    for name in names:
        site.ctl("protect", name, "--interval", "100ms", "--retention", "all")
    code, text = Generator(site, names, "--epochs", "20", "--ram", "4", "--disk", "4").end()
    assert code == 0, text
    for name in names:
        kept = site.checkpoints(name)
        # More may be durable than the generator waited for.
        assert [c["number"] for c in kept] == list(range(1, len(kept) + 1)) and len(kept) >= 20, (name, len(kept))
    assert site.ctl("verify")["damage"] == []
    assert "verified" in site.ctl_text("verify", "gen0@latest")
    print("8 machines, 20 epochs each, all read back")


def one_name_twice(site):
    site.ctl("protect", "twin", "--interval", "100ms", "--retention", "all")
    first = Generator(site, ["twin"], "--epochs", "0", "--ram", "2", "--disk", "0")
    site.wait_state("twin", "capturing")
    code, text = Generator(site, ["twin"], "--epochs", "3", "--ram", "2", "--disk", "0").end()
    assert code == 3 and "connected already" in text, (code, text)
    before = site.machine("twin")["epochs_total"]
    site.wait_checkpoints("twin", 2)
    assert site.machine("twin")["epochs_total"] > before
    assert "stop it" in refused(site, 7, "forget", "twin")
    assert "runs" in refused(site, 7, "restore", "twin")
    first.kill()
    site.wait_state("twin", "waiting")
    # Another machine under the known name, by its UUID.
    code, text = Generator(site, ["twin"], "--epochs", "3", "--ram", "2", "--disk", "0", "--seed", "77").end()
    assert code == 3 and "UUID" in text, (code, text)
    print("two machines with one name: the second is refused, the first goes on")


def misbehaving(site):
    site.ctl("protect", "bad", "--interval", "100ms", "--retention", "all")
    kept = 0
    for how, words in (("truncate", None), ("replay", "was due, and 0 came"), ("foreign-epoch", "is not under way"), ("oversize", "announces"),
                       ("garbage", "does not begin with CKPS"), ("version", "version 2")):
        before = site.log_size()
        code, text = Generator(site, ["bad"], "--epochs", "6", "--ram", "2", "--disk", "2", "--misbehave", how, "--after", "2").end()
        assert code == (3 if words else 4) and (words or "cut off by this end") in text, (how, code, text)
        machine = site.wait_state("bad", "waiting")
        said = site.log_text(before)
        assert (words or "QEMU has closed the connection") in said, (how, said)
        # What is refused at HELLO was never the machine's connection.
        assert how in ("truncate", "version") or words in machine["reason"], (how, machine)
        now = len(site.checkpoints("bad"))
        assert now >= kept, (how, now, kept)
        kept = now
        print(f"{how}: {kept} checkpoints kept; {machine['reason'] or 'closed'}")
    assert site.ctl("verify", "bad")["damage"] == []
    assert Generator(site, ["bad"], "--epochs", "3", "--ram", "2", "--disk", "2").end()[0] == 0


def points(site):
    site.ctl("protect", "pts", "--interval", "200ms", "--retention", "all")
    generator = Generator(site, ["pts"], "--epochs", "0", "--ram", "2", "--disk", "2")
    site.wait_checkpoints("pts", 3)
    named = site.ctl("checkpoint", "pts", "--name", "before-update")["checkpoint"]
    assert named["name"] == "before-update"
    assert site.ctl("show", "pts@before-update")["checkpoint"]["number"] == named["number"]
    refused(site, 2, "checkpoint", "pts", "--name", "before-update")
    refused(site, 3, "checkpoint", "pts", "--name", "latest")
    pinned = numbers(site, "pts")[0]
    site.ctl("pin", f"pts@{pinned}")
    assert "unpin" in refused(site, 7, "remove", f"pts@{pinned}")
    gone = numbers(site, "pts")[1]
    site.ctl("remove", f"pts@{gone}")
    assert gone not in numbers(site, "pts")
    # Thinned to the newest while it captures; what is named or pinned stays, until it is not any more.
    site.ctl("set", "pts", "retention=all:1s")
    left = wait_until(lambda: (n := numbers(site, "pts"))[:2] == [pinned, named["number"]] and len(n) < 20 and n, 30, "retention")
    print("kept by retention:", left)
    site.ctl("unpin", f"pts@{pinned}")
    site.ctl("name", f"pts@{named['number']}")
    wait_until(lambda: not {pinned, named["number"]} & set(numbers(site, "pts")), 30, "the pin's and the name's end")
    assert site.machine("pts")["state"] == "capturing"
    generator.kill()


def restarts(site):
    site.ctl("protect", "live", "--interval", "100ms", "--retention", "all")
    generator = Generator(site, ["live"], "--epochs", "0", "--ram", "2", "--disk", "2", "--reconnects", "100")
    for number in (15, 9, 9):
        site.wait_checkpoints("live", 3)
        durable = numbers(site, "live")
        site.stop(number)
        site.start()
        after = wait_until(lambda d=durable: len(n := numbers(site, "live")) > len(d) + 2 and n, 60, "capture to go on")
        assert after[:len(durable)] == durable, (durable, after)
    generator.kill()
    assert site.ctl("verify", "live")["damage"] == []
    print(f"ckptd ended three times: {len(after)} checkpoints, none lost")


def pace(site):
    site.ctl("protect", "fast", "--interval", "50ms", "--retention", "all")
    generator = Generator(site, ["fast"], "--epochs", "0", "--ram", "1", "--disk", "0", "--dirty", "5")
    site.wait_checkpoints("fast", 5)
    site.ctl("set", "fast", "interval=10m")
    time.sleep(1)
    before = site.machine("fast")["epochs_total"]
    time.sleep(1)
    assert site.machine("fast")["epochs_total"] == before
    assert site.ctl("checkpoint", "fast")["checkpoint"]["number"] > 0  # by hand, in between
    site.ctl("unprotect", "fast")
    assert generator.end()[0] != 0
    assert site.machine("fast")["state"] == "not protected" and len(site.checkpoints("fast")) > 5


with Site() as shared:
    shared.start()
    for case in (many_at_once, one_name_twice, misbehaving, points, restarts, pace):
        case(shared)
