#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""A Linux guest, lost and restored through ckptctl: lazily with agent, disk server and ckptd killed in between, at an earlier
point, beside itself under another name, and again after that. The oracle in the guest must hold each time."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, alive, wait_until  # noqa: E402
from guest import Guest  # noqa: E402


def refused(site, code, *arguments):
    try:
        site.ctl_text(*arguments)
    except CtlError as error:
        assert error.code == code, error
        print("refused:", error.text[:160])
        return error.text
    raise AssertionError(f"{arguments} was not refused")


def wait_local(site, name, timeout_s=120):
    restore = wait_until(lambda: (r := site.restore_of(name))["phase"] in ("local", "failed", "ended") and r, timeout_s, f"{name} to be local")
    assert restore["phase"] == "local", restore
    return restore


def check(guest, nonce, counter):
    assert guest.cmd("nonce", timeout_s=60) == nonce, "rebooted, not restored"
    assert int(guest.cmd("counter")) > counter
    answer = guest.cmd("verify", timeout_s=120)
    assert answer.startswith("ok pages=8192"), answer
    return answer


def is_protected_on(site, name, answer):
    site.wait_checkpoints(name, 2)
    first = next(c for c in site.checkpoints(name) if c["parent"] == answer["source"])
    carried = first["data_bytes"]
    assert carried < 100 << 20, f"a full copy: {carried} bytes"
    assert site.machine(name)["base"] == answer["source"]


def lazy_with_kills(site, guest, nonce, counter):
    answer = site.restore(guest, "vm", ["--mode", "lazy"])
    assert guest.cmd("nonce", timeout_s=60) == nonce
    directory = site.run_dir + "/restore/vm"
    for _ in range(5):
        agent = site.restore_of("vm")["agent_pid"]
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda a=agent: site.restore_of("vm")["agent_pid"] != a, 30, "a new agent")
        assert int(guest.cmd("counter", timeout_s=60)) > counter
    site.stop(signal.SIGKILL)
    import json
    with open(directory + "/state.json", encoding="utf-8") as file:
        state = json.load(file)
    # With ckptd away both die; the guest waits where it needs them, and goes on when ckptd is back.
    os.kill(state["agent"]["pid"], signal.SIGKILL)
    os.kill(state["disks"][0]["server"]["pid"], signal.SIGKILL)
    time.sleep(1)
    site.start()
    print("after the kills:", check(guest, nonce, counter))
    assert site.restore_of("vm")["agent_restarts"] >= 6
    is_protected_on(site, "vm", answer)
    assert any(answer["source"] == f"vm@{c['number']}" and c["pins"] for c in site.checkpoints("vm"))
    site.ctl("finish", "vm")
    restore = wait_local(site, "vm")
    print(f"guest ran after {answer['running_ms']} ms, BTN {restore['btn_ms']} ms, {restore['agent_restarts']} agents replaced")
    for process in (state["disks"][0]["server"]["pid"], restore["agent_pid"]):
        assert not alive(process)
    assert not any(c["pins"] for c in site.checkpoints("vm"))
    return check(guest, nonce, counter)


def refusals(site, guest):
    refused(site, 7, "restore", "vm")  # it runs
    point = f"vm@{site.checkpoints('vm')[2]['number']}"
    options = ("--disk-dir", site.directory, "--as", "odd")
    line = guest.command_line()
    for code, words, cmd in (
            (10, "with the devices it was taken with", [w if w != "q35" else "pc" for w in line]),
            (11, "a disk 'vd0' that the command line lacks", [w.replace("vd0", "other") for w in line]),
            (10, "with the memory it was taken with", ["512" if w == "256" else w for w in line])):
        text = refused_line(site, point, options, cmd, code)
        assert words in text, text
    assert not [c for c in site.checkpoints("vm") if c["pins"]], "a refused restore left its pin"
    assert "odd" not in [m["name"] for m in site.ctl("status")["machines"]], "a machine that never ran is known"
    site.ctl("forget", "odd")


def without_server(site):
    """A disk server that ends before QEMU has its disk: told at once, with what it said, and all is undone."""
    folder = site.directory + "/bin"
    os.mkdir(folder)
    with open(folder + "/nbdkit", "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho these were its words\n")
    os.chmod(folder + "/nbdkit", 0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = folder + ":" + path
    try:
        text = refused(site, 10, "restore", "vm", "--as", "serverless")
    finally:
        os.environ["PATH"] = path
    assert "nbdkit of disk 'vd0' ended" in text and "these were its words" in text, text
    assert not [c for c in site.checkpoints("vm") if "restore:serverless" in c["pins"]]
    site.ctl("forget", "serverless")


def refused_line(site, point, options, command, code):
    # Nothing of the running guest's: sockets and ports of its own.
    words = [w.replace("qmp.sock", "odd-qmp.sock").replace("line.sock", "odd-line.sock") for w in command]
    words = [w.split(",hostfwd")[0] if ",hostfwd" in w else w for w in words]
    try:
        site.ctl_text("restore", point, *options, "--", *words)
    except CtlError as error:
        assert error.code == code, error
        return error.text
    raise AssertionError("a checkpoint of another machine was restored")


def main():
    with Site(interval="500ms") as site, Guest("linux-small", directory=site.directory) as guest:
        site.run_dir += ",1"  # a comma separates QEMU's options
        site.start()
        site.run(guest, "vm")
        guest.wait_ready()
        assert guest.cmd("load 32 1000 50") == "ok"
        nonce = guest.cmd("nonce")
        site.ctl("checkpoint", "vm", "--name", "early")
        early = int(guest.cmd("counter"))
        site.wait_checkpoints("vm", 6)
        refused(site, 7, "run", "vm", "--", *guest.command_line())
        counter = int(guest.cmd("counter")) - 400
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 10, "ckptd to notice")
        print(lazy_with_kills(site, guest, nonce, counter))
        refusals(site, guest)

        # Earlier, in place of the newer one; its image of the same point would be in the way only with the same number.
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 10, "ckptd to notice")
        without_server(site)
        answer = site.restore(guest, "vm@early")
        assert guest.cmd("nonce", timeout_s=60) == nonce
        now = int(guest.cmd("counter"))
        assert now < early + 3000, (early, now)
        wait_local(site, "vm")
        check(guest, nonce, 0)
        is_protected_on(site, "vm", answer)
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 10, "ckptd to notice")
        assert "--replace" in refused(site, 2, "restore", "vm@early")
        assert not site.machine("vm")["connected"]

        # A copy under another name, in full mode, with its chain going on from the original's point.
        answer = site.restore(guest, "vm@latest", ["--as", "copy", "--mode", "full"])
        check(guest, nonce, 0)
        wait_local(site, "copy")
        is_protected_on(site, "copy", answer)
        assert site.machine("vm")["state"] == "waiting"
        assert site.ctl("verify")["damage"] == []


main()
