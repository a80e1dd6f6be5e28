#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""The control socket: hostile bytes, limits, and errors that name cause and cure."""
import json
import os
import socket
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, CtlError, Site  # noqa: E402
from generator import Generator, connect  # noqa: E402


def talk(site, data):
    """The answers to raw bytes, as objects."""
    with connect(site) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # ckptd has seen enough
        answer = b""
        while True:
            try:
                got = s.recv(1 << 20)
            except ConnectionError:
                break
            if not got:
                break
            answer += got
    return [json.loads(line) for line in answer.splitlines()]


def code_of(answers):
    assert answers and answers[-1]["ok"] is False, answers
    return answers[-1]["error"]["number"]


def fails(site, code, *arguments):
    try:
        site.ctl_text(*arguments)
    except CtlError as error:
        assert error.code == code, f"{error} instead of {code}"
        assert len(error.text) > 20 and error.text.startswith("ckptctl: "), error.text
        return error.text
    raise AssertionError(f"{arguments} did not fail")


with Site() as site:
    assert "ckptd --store" in fails(site, 10, "status")  # not running: how to start it
    site.start()
    mode = stat.S_IMODE(os.stat(site.run_dir + "/ckptd.sock").st_mode)
    assert mode == 0o600, oct(mode)

    # Hostile bytes: each is answered, none harms the next.
    assert code_of(talk(site, b"nonsense\n")) == 3
    assert code_of(talk(site, b"[]\n")) == 3
    assert code_of(talk(site, b'{"verb":7}\n')) == 3
    assert code_of(talk(site, b'{"verb":"explode"}\n')) == 3
    assert code_of(talk(site, b'{"a":' + b"[" * 100000 + b"\n")) == 3
    assert code_of(talk(site, b"x" * (2 << 20))) == 12
    assert code_of(talk(site, b'{"verb":"status"')) == 5
    assert code_of(talk(site, b'{"verb":"protect","machine":"../../etc"}\n')) == 3
    assert code_of(talk(site, b'{"verb":"protect","machine":"\xff\xfe"}\n')) == 3
    assert code_of(talk(site, b'{"verb":"list","machine":{"a":1}}\n')) == 3
    assert code_of(talk(site, b'{"verb":"protect","machine":"vm","policy":{"interval_ms":-5}}\n')) == 3
    several = talk(site, b'{"verb":"hello"}\n' * 3)
    assert len(several) == 3 and all(a["ok"] and a["version"] == 1 for a in several), several

    # More connections than allowed: refused with a reason, and served again once they have gone.
    idle = [connect(site) for _ in range(64)]
    for s in idle:
        s.sendall(b'{"verb":"hello"}\n')
        assert json.loads(s.recv(65536))["ok"]
    fails(site, 7, "status")
    for s in idle:
        s.close()

    second = subprocess.run([BUILD + "/ckptd/ckptd", "--store", site.store, "--run-dir", site.directory + "/run2", "--state-dir", site.directory + "/state"],
                            capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 7 and str(site.process.pid) in second.stderr, second
    print("a store opened twice:", second.stderr.strip())

    # Errors and their exit codes.
    fails(site, 1, "list", "nonesuch")
    fails(site, 1, "show", "nonesuch@latest")
    fails(site, 1, "restore", "nonesuch")
    fails(site, 1, "set", "nonesuch", "interval=1s")
    fails(site, 3, "set", "nonesuch", "colour=red")
    fails(site, 3, "protect", "bad/name")
    fails(site, 3, "protect", "vm", "--interval", "10ms")
    fails(site, 3, "remove", "vm")
    fails(site, 11, "run", "vm", "--", "true", "-daemonize")
    assert site.ctl("protect", "vm", "--interval", "50ms")["socket"] == site.run_dir + "/vm.sock"
    fails(site, 10, "checkpoint", "vm")
    code, text = Generator(site, ["vm"], "--epochs", "1", "--ram", "1", "--disk", "0").end()
    assert code == 0, text
    for holder, number in ((b"h" * 500, 3), (b"", 3)):
        assert code_of(talk(site, b'{"verb":"pin","machine":"vm","point":"1","holder":"' + holder + b'"}\n')) == number
    assert not site.checkpoints("vm")[0]["pins"]
    assert site.ctl("set", "vm", "retention=all:60s,10s:10m")["policy"]["interval_ms"] == 50
    assert site.machine("vm")["retention"] == "all:1m,10s:10m"

    # What is known of machines survives a restart, and a kill.
    site.stop()
    site.start()
    assert site.machine("vm")["interval_ms"] == 50
    site.stop(9)
    site.start()
    assert site.machine("vm")["state"] == "waiting"
    site.ctl("forget", "vm")
    assert not site.ctl("status")["machines"]
