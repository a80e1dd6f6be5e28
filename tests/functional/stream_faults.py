#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon that is slow, hung, dead, hostile or unwilling never stops the guest or the monitor, and
afterwards capture goes on, without a full copy where that is right."""
# limit: 600
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, guest_goes_on, run  # noqa: E402
import stream_peer as wire  # noqa: E402

MIB = 128


def small(**how):
    case = Case(memory_mib=MIB, cpus=2, **how)
    case.guest.cmd("load 24 2000 60")
    return case


def nobody_there():
    """Nobody listens: the guest boots and runs, capture begins when somebody does."""
    with small(listening=False) as case:
        guest_goes_on(case)
        assert case.info()["state"] == "connecting"
        case.peer = wire.Peer(case.socket)
        case.epochs(2)
        case.check_replica()


def reads_nothing():
    """A daemon that stops reading: the queue is bounded, writes go on, nothing is lost."""
    with small(stream=",queue-size=8M") as case:
        case.epochs(1)
        case.peer.hold_reading.clear()
        case.peer.ask()
        case.guest.cmd("load 32 8000 300")
        guest_goes_on(case, 5)
        assert case.info()["queue-bytes"] < 17 << 20, case.info()
        case.peer.hold_reading.set()
        case.peer.wait(lambda: len(case.peer.ends) >= 2)
        case.epochs(1)
        case.check_replica()
        case.check_guest()
        assert case.peer.modes == ["full"], case.peer.modes
        return case.info()["retries"]


def changes_too_fast():
    """Memory that changes faster than it is taken: said, with the cure, and no pause for nothing."""
    with small(stream=",queue-size=8M") as case:
        case.epochs(1)
        case.peer.bytes_per_s = 20 << 20
        case.guest.cmd("load 16 20000 0")
        case.peer.ask()
        before, retries = len(case.peer.ends), case.info()["retries"]
        case.peer.wait(lambda: "'queue-size'" in case.peer.state[2])
        info = case.info()
        assert info["state"] == "capturing" and "'queue-size'" in info["reason"], info
        assert len(case.peer.ends) == before and info["retries"] == retries, info
        guest_goes_on(case)
        case.guest.cmd("load 16 500 60")
        case.peer.bytes_per_s = None
        case.peer.wait(lambda: len(case.peer.ends) > before)
        case.epochs(1)
        assert "reason" not in case.info(), case.info()
        case.check_replica()
        case.check_guest()
        assert case.peer.modes == ["full"], case.peer.modes


def quit_while_stuck():
    """QEMU ends at once although the daemon does not read."""
    with small(stream=",queue-size=8M") as case:
        case.epochs(1)
        case.peer.hold_reading.clear()
        case.peer.ask()
        case.guest.cmd("load 32 8000 300")
        time.sleep(1)
        return f"quit took {case.quit():.2f} s"


def dies_again_and_again():
    """Forty broken connections at random moments: continue each time, and the replica is equal."""
    with small() as case:
        case.epochs(1)
        for number in range(40):
            try:
                if number % 2:
                    case.peer.ask()
            except TimeoutError:
                raise  # it does not come back
            except OSError:
                pass
            time.sleep((number * 37 % 100) / 1000)
            case.peer.drop()
        case.epochs(1)
        case.check_replica()
        case.check_guest()
        assert set(case.peer.modes[1:]) == {"continue"}, case.peer.modes


def lost_acknowledgement():
    """The acknowledgement was lost: what that epoch carried is not sent again."""
    with small() as case:
        case.epochs(1)
        case.peer.acknowledge = False
        durable = case.peer.take()["number"]
        case.peer.drop()
        case.peer.acknowledge = True
        case.epochs(1)
        assert case.peer.hellos[-1]["closed"] == durable, case.peer.hellos
        assert case.peer.modes == ["full", "continue"], case.peer.modes
        case.check_replica()


def forgot_everything():
    """A daemon that lost its store: everything is copied again."""
    with small() as case:
        case.epochs(2)
        case.peer.durable = 0
        case.peer.drop()
        case.epochs(1)
        assert case.peer.modes == ["full", "full"], case.peer.modes
        case.check_replica()


def refuses():
    """A daemon that refuses: its reason is shown, and it is asked again."""
    with small(peer_with={"refuse": "no room in the store; make some"}) as case:
        info = case.wait_state("refused")
        assert info["reason"] == "no room in the store; make some", info
        guest_goes_on(case)
        case.peer.refuse = None
        case.wait_state("copying")
        case.epochs(1)
        case.check_replica()


def welcome(version=1, mode=1, number=1, durable=0):
    return struct.pack("<IIQQII", version, mode, number, durable, 1000, 0)


HOSTILE = [
    ("garbage", lambda p: p.connection.sendall(os.urandom(5000))),
    ("wrong sequence", lambda p: p.send(wire.TAKE, p.open.number, bytes(8), sequence=77)),
    ("an epoch that never was", lambda p: p.send(wire.TAKE, 1 << 60, bytes(8))),
    ("DURABLE out of the blue", lambda p: p.send(wire.DURABLE, p.open.number)),
    ("WELCOME twice", lambda p: p.send(wire.WELCOME, 0, welcome(number=1 << 40))),
    ("a huge length", lambda p: p.connection.sendall(
        struct.pack("<IHHQII", wire.MAGIC, wire.TAKE, 0, 1, 0xFFFFFFFF, 1))),
    ("an unknown type", lambda p: p.send(99, 0, b"")),
    ("TAKE with a payload of another length", lambda p: p.send(wire.TAKE, p.open.number, bytes(9))),
    ("REFUSE with a wrong string", lambda p: p.send(wire.REFUSE, 0, b"\xff\xff\x00")),
    ("half a message, then silence", lambda p: p.connection.sendall(b"CKPS\x42")),
]


def hostile():
    """Every kind of nonsense ends the connection, and nothing else."""
    with small() as case:
        for name, act in HOSTILE:
            case.epochs(1, 0.05)
            connections = len(case.peer.hellos)
            act(case.peer)
            if name.startswith("half"):
                guest_goes_on(case, 1)
                case.peer.drop()
            case.peer.wait(lambda n=connections: len(case.peer.hellos) > n, 20)
            print("#", name)
        guest_goes_on(case)
        case.epochs(1)
        case.check_replica()
        case.check_guest()


def hostile_welcome():
    """A WELCOME that offers what cannot be right is not believed."""
    with small() as case:
        case.epochs(1)
        peer = case.peer
        real = peer._hello  # pylint: disable=protected-access
        for lie in (welcome(2), welcome(1, 3, 99), welcome(1, 2, 99, 12345), welcome(1, 1, 1),
                    welcome(1, 1, 0), welcome(1, 1, (1 << 64) - 1)):
            def hello(payload, lie=lie):
                peer.hellos.append({})
                peer.send(wire.WELCOME, 0, lie)
            peer._hello = hello  # pylint: disable=protected-access
            count = len(peer.hellos)
            peer.drop()
            peer.wait(lambda n=count: len(peer.hellos) > n + 1, 20)
        peer._hello = real  # pylint: disable=protected-access
        peer.drop()
        case.epochs(2)
        case.check_replica()


if __name__ == "__main__":
    sys.exit(run([nobody_there, reads_nothing, changes_too_fast, quit_while_stuck, dies_again_and_again,
                  lost_acknowledgement, forgot_everything, refuses, hostile, hostile_welcome]))
