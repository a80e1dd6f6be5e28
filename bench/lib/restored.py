# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine of a Protected, restored by ckptctl, until it answers."""
import json
import selectors
import socket
import threading
import time

from ckpt_site import wait_until


def who_it_is(nonce):
    """To wait until the machine says who it is: one that has booted anew could not."""
    return lambda guest, start, failed=lambda: None: first_answer(guest, nonce, start, failed)


def first_answer(guest, nonce, start, failed, limit_s=300):
    """Asks every 50 ms by a connection of its own: what is sent before the guest runs may be lost, which happens to user networking while the guest's
    clock is set, and how long a client waits for such an answer says nothing about the restore."""
    address, next_s = ("127.0.0.1", guest.forwards[7]), start
    with selectors.DefaultSelector() as asked:
        try:
            while time.monotonic() < start + limit_s:
                if failed():
                    raise RuntimeError(f"the restore failed: {failed()}")
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + 0.05
                    question = socket.socket()
                    question.setblocking(False)
                    question.connect_ex(address)
                    asked.register(question, selectors.EVENT_WRITE)
                for key, _ in asked.select(max(0, next_s - time.monotonic())):
                    if goes_on(asked, key) == nonce:
                        return time.monotonic() - start
        finally:
            for key in list(asked.get_map().values()):
                key.fileobj.close()
    raise TimeoutError(f"no answer in {limit_s} s")


def goes_on(asked, key):
    """The question is sent, or its answer is returned."""
    try:
        if key.events == selectors.EVENT_WRITE:
            key.fileobj.sendall(b"nonce\n")
            asked.modify(key.fileobj, selectors.EVENT_READ)
            return None
        answer = key.fileobj.recv(100).decode().strip()
    except OSError:
        answer = None
    asked.unregister(key.fileobj)
    key.fileobj.close()
    return answer


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
