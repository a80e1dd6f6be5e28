#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a machine does by itself under capture: it sleeps, panics, goes off, boots anew, is stopped. Epochs
go on in each state and are exact, and the state is the one that the machine had."""
# limit: 600
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, run  # noqa: E402

RUNNING, PAUSED, OTHER = 1, 2, 3
MACHINE = ["-action", "panic=pause,shutdown=pause", "-device", "pvpanic"]


def tell(case, command):
    """A command after which the guest cannot answer."""
    case.guest.line.sendall(command.encode() + b"\n")


def wait_status(case, status):
    end = time.monotonic() + 60
    while (now := case.guest.qmp("query-status")["status"]) != status:
        assert time.monotonic() < end, (now, status)
        time.sleep(0.02)


def exact_at_rest(case, status, run_state):
    """Two epochs of a machine in this state, exact, and it stays in it."""
    wait_status(case, status)
    for _ in range(2):
        figures = case.peer.take()
        assert figures["run_state"] == run_state, figures
    case.compare()
    assert case.guest.qmp("query-status")["status"] == status


def boots_anew(case, nonce):
    """The guest is another one than that of the nonce, and captured as that was (its pages are still full of the other's)."""
    case.guest.line.close()
    case.guest.line = None
    case.guest.wait_ready()
    assert case.guest.cmd("nonce") != nonce
    case.epochs(2, 0.1)
    case.check_replica()


def panics(case):
    tell(case, "k")
    exact_at_rest(case, "guest-panicked", OTHER)
    case.guest.qmp("system_reset")
    wait_status(case, "prelaunch")
    case.guest.qmp("cont")


def sleeps(case):
    tell(case, "z")
    exact_at_rest(case, "suspended", RUNNING)
    case.guest.qmp("system_wakeup")
    # It left no address to go on at, so the firmware starts it anew.
    wait_status(case, "running")


def sleeps_stopped(case):
    tell(case, "z")
    wait_status(case, "suspended")
    case.guest.qmp("stop")
    exact_at_rest(case, "paused", PAUSED)
    case.guest.qmp("cont")
    exact_at_rest(case, "suspended", RUNNING)
    case.guest.qmp("system_wakeup")
    wait_status(case, "running")


def goes_off(case):
    tell(case, "x")
    exact_at_rest(case, "shutdown", OTHER)
    case.guest.qmp("system_reset")
    wait_status(case, "prelaunch")
    case.guest.qmp("cont")


def is_reset(case):
    case.peer.ask()
    case.guest.qmp("system_reset")


def resets_itself(case):
    tell(case, "b")


def is_stopped_often(case):
    nonce = case.guest.cmd("nonce")
    for number in range(20):
        case.guest.qmp("stop")
        if number % 2:
            case.peer.ask()
        case.guest.qmp("cont")
        if not number % 3:
            case.epochs(1, 0.01)
    case.epochs(2, 0.1)  # also what was asked for above
    case.check_replica()
    case.check_guest()
    assert case.guest.cmd("nonce") == nonce


TITLES = {panics: "a panic", sleeps: "S3 and wakeup", sleeps_stopped: "stopped in S3", goes_off: "power off without an end",
          is_reset: "system_reset", resets_itself: "the guest's own reset"}


def all_of(accel, machine, only):
    with Case(guest="bare", accel=accel, machine=machine, memory_mib=128, append="rate=2000 mib=24", extra=MACHINE) as case:
        is_stopped_often(case)
        for event in only:
            nonce = case.guest.cmd("nonce")
            case.epochs(1, 0.1)
            event(case)
            boots_anew(case, nonce)
            print("#", TITLES[event], flush=True)
        assert case.peer.modes[0] == "full" and set(case.peer.modes[1:]) <= {"continue"}, case.peer.modes
        return f"connections {case.peer.modes}"


def on_q35():
    """q35: stop and cont, panic, S3, power off, reset."""
    return all_of("tcg,thread=multi", "q35", list(TITLES))


def on_pc():
    """pc: S3, power off, reset."""
    return all_of("tcg,thread=multi", "pc", [sleeps, goes_off, resets_itself])


if __name__ == "__main__":
    sys.exit(run([on_q35, on_pc]))
