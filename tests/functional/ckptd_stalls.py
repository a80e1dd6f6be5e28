#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""Clients that stop half-way: in HELLO, in a message, in an epoch, in a request, or in reading the answer. Each is cut off within
the limit and costs nobody else anything; between messages a machine may be silent for ever."""
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, CtlError, Site, wait_until  # noqa: E402
from generator import Generator, connect  # noqa: E402

HEAD_BYTES = 24
SMALL = ("--ram", "1", "--disk", "0")


def messages(site):
    """What a client sends of its first epoch, message by message."""
    path = site.directory + "/client.bin"
    subprocess.run([BUILD + "/tests/tools/stream_gen", "--file", path, "--epochs", "1", *SMALL], check=True, stdout=subprocess.DEVNULL)
    with open(path, "rb") as file:
        stream = file.read()
    at, found = 0, []
    while at < len(stream):
        end = at + HEAD_BYTES + struct.unpack_from("<I", stream, at + 16)[0]
        found.append(stream[at:end])
        at = end
    return found


def read_to_end(s):
    """All that comes until the other end closes; a reset is an end too."""
    got = b""
    try:
        while part := s.recv(1 << 20):
            got += part
    except ConnectionResetError:
        pass
    return got


def works(site, name):
    code, text = Generator(site, [name], "--epochs", "2", *SMALL).end()
    assert code == 0, text


def half_a_hello(site):
    site.ctl("protect", "hello")
    hello = messages(site)[0]
    with connect(site, "hello") as silent, connect(site, "hello") as half:
        half.sendall(hello[:40])
        works(site, "hello")  # they are in nobody's way
        read_to_end(half)
        read_to_end(silent)
    # A byte now and then is no HELLO either. Eight of them would keep a machine's own QEMU out.
    with connect(site, "hello") as slow:
        for byte in (hello * 10)[:75]:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.2)
        else:
            raise AssertionError("a HELLO may take 15 s")
    assert "before its HELLO" in site.log_text()
    print("half a HELLO, none, and a slow one: cut off")


def half_a_message(site):
    site.ctl("protect", "half")
    works(site, "half")
    kept = site.checkpoints("half")
    hello, epoch_begin = messages(site)[:2]
    with connect(site, "half") as s:
        s.sendall(hello + epoch_begin[:-1])
        read_to_end(s)
    machine = site.wait_state("half", "waiting")
    assert "inside a message" in machine["reason"], machine
    assert site.checkpoints("half")[:len(kept)] == kept
    print("half a message:", machine["reason"])


def nobody_waits_for_its_checkpoint(site):
    """A machine that hangs makes none; who has asked for one and left takes no connection from others."""
    site.ctl("protect", "hangs")
    machine = Generator(site, ["hangs"], "--epochs", "0", *SMALL)
    try:
        site.wait_checkpoints("hangs", 1)
        os.kill(machine.process.pid, signal.SIGSTOP)
        for _ in range(64):
            with connect(site) as s:
                s.sendall(b'{"verb":"checkpoint","machine":"hangs","timeout_s":3600}\n')
        wait_until(site.answers, 30, "ckptd to have a connection free")
    finally:
        machine.kill()
    print("64 abandoned requests for a checkpoint: ckptd answers")


def half_an_epoch(site):
    """Whole messages, and then nothing: that is allowed, and seen."""
    site.ctl("protect", "epoch")
    hello = messages(site)[0]
    with connect(site, "epoch") as s:
        s.sendall(hello)
        assert s.recv(1 << 16), "no WELCOME"
        machine = wait_until(lambda: (m := site.machine("epoch"))["connected"] and m, 30, "the machine to be connected")
        s.settimeout(3)
        try:
            s.recv(1)
            raise AssertionError("a silent client was cut off between messages")
        except TimeoutError:
            pass
        machine = site.machine("epoch")
        assert machine["connected"] and machine["state"] == "copying" and machine["rpo_ms"] is None, machine
        try:
            site.ctl_text("checkpoint", "epoch", "--timeout", "1")
            raise AssertionError("a checkpoint of a silent machine")
        except CtlError as error:
            assert error.code == 10 and "within 1 s" in error.text, error
        code, text = Generator(site, ["epoch"], "--epochs", "1", *SMALL).end()
        assert code == 3 and "connected already" in text, text
        works(site, "other")
    site.wait_state("epoch", "waiting")
    works(site, "epoch")
    print("half an epoch: waited for, a second QEMU on its socket refused")


def half_a_request(site):
    with connect(site) as half:
        half.sendall(b'{"verb":')
        assert site.ctl("status")["machines"]
        answer = json.loads(read_to_end(half))
    assert answer["error"]["number"] == 10, answer
    print("half a request:", answer["error"]["message"])


def never_reading(site):
    """Answers pile up in the socket; then ckptd waits, in a thread that is nobody else's, and gives up."""
    count = 4000
    with connect(site) as deaf:
        deaf.sendall(b'{"verb":"status"}\n' * count)
        for _ in range(5):
            assert site.ctl("status")["machines"]
        closed = select.poll()
        closed.register(deaf, 0)
        assert closed.poll(15_000), "a client that never reads is not cut off"
        answered = read_to_end(deaf).count(b"\n")
    assert answered < count, answered
    print(f"a client that never reads: cut off after {answered} answers")


def stop_waits_for_nobody(site):
    site.stop()
    site.start(["--stall-limit", "1h"])
    with connect(site) as half, connect(site) as deaf, connect(site, "hello") as stream:
        half.sendall(b'{"verb":')
        stream.sendall(messages(site)[0][:50])
        deaf.sendall(b'{"verb":"status"}\n' * 4000)
        site.stop(timeout_s=60)
    print("with all of them connected, ckptd ends when it is told to")


with Site(interval="50ms") as shared:
    shared.start(["--stall-limit", "1s"])
    shared.ctl("protect", "other")
    for case in (half_a_hello, half_a_message, nobody_waits_for_its_checkpoint, half_an_epoch, half_a_request, never_reading, stop_waits_for_nobody):
        case(shared)
