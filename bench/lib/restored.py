# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine of a Protected, restored by ckptctl, until it answers."""
import json
import socket
import threading
import time

from ckpt_site import wait_until


def who_it_is(nonce):
    """To wait until the machine says who it is: one that has booted anew could not."""
    return lambda guest, start, failed=lambda: None: first_answer(guest, nonce, start, failed)


def first_answer(guest, nonce, start, failed, limit_s=300):
    while time.monotonic() - start < limit_s:
        try:
            # Short: what is sent before the guest runs is lost, and asking again is what a client would do.
            if guest.tcp_cmd("nonce", timeout_s=0.3) == nonce:
                return time.monotonic() - start
        except OSError:
            pass
        if failed():
            raise RuntimeError(f"the restore failed: {failed()}")
        time.sleep(0.005)
    raise TimeoutError(f"no answer in {limit_s} s")


def restore(machine, point, disks, wait, at_answer=lambda: None, options=()):
    """Seconds until `wait(guest, start, failed)` has had an answer; `at_answer` is called at that instant."""
    errors = []

    def command():
        try:
            machine.site.restore(machine.guest, point, ["--disk-dir", disks, *options])
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
    start = time.monotonic()
    thread = threading.Thread(target=command)
    thread.start()
    try:
        seconds = wait(machine.guest, start, lambda: errors)
        at_answer()
        return seconds
    finally:
        thread.join()


def agent_status(site):
    """What the agent says now, or said at its end."""
    path = f"{site.run_dir}/restore/vm/agent.json"
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path + ".sock")
            s.sendall(b"status\n")
            return json.loads(s.makefile().readline())
    except (OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            return json.load(file)

def lose(machine):
    """Its host dies, and so does what restored it."""
    machine.guest.kill()
    wait_until(lambda: not machine.site.machine("vm")["connected"], 30, "vm to be lost")
    if machine.site.ctl("restores")["restores"]:
        wait_until(lambda: machine.site.restore_of("vm")["phase"] == "ended", 60, "the restore to end")
