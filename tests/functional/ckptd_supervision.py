#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""Restores in progress are looked after independently: one whose QEMU takes no word holds up no other, nor ckptctl. An agent that dies
is replaced, however often. QEMU, agents and servers are stand-ins; what is written of them is what an earlier
ckptd has left."""
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import Site, alive, wait_until  # noqa: E402

SLEEP = ["/usr/bin/sleep", "3600"]


def identity(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return {"pid": pid, "start_time": int(stat.read().rsplit(")", 1)[1].split()[19])}


class StandIns:
    """Processes of a restore, ended by their ids."""

    def __init__(self):
        self.processes = []

    def start(self):
        self.processes.append(subprocess.Popen(SLEEP))
        return identity(self.processes[-1].pid)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


def write_restore(site, stand_ins, name, agent_done):
    directory = f"{site.run_dir}/restore/{name}"
    os.makedirs(directory, exist_ok=True)
    if agent_done:
        with open(directory + "/agent.json", "w", encoding="utf-8") as file:
            json.dump({"state": "done"}, file)
    state = {"version": 1, "name": name, "source": "gone@1", "mode": "aggressive", "phase": "running", "reason": "", "holder": "restore:" + name,
             "starter": identity(os.getpid()), "agent": stand_ins.start(), "agent_argv": SLEEP, "agent_status": directory + "/agent.json",
             "agent_restarts": 0, "qemu": stand_ins.start(), "qmp": f"{site.run_dir}/{name}.qmp", "begun_ns": 1, "running_ns": 2, "local_ns": 0,
             "disks": [{"name": "vd0", "overlay": "/nowhere", "node": "", "server_argv": SLEEP, "server": stand_ins.start(), "read_only": False,
                        "streaming": False, "local": False}]}
    with open(directory + "/state.new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.rename(directory + "/state.new", directory + "/state.json")


def kill_agent(site, name):
    """Until a new one has taken over."""
    old = site.restore_of(name)["agent_pid"]
    os.kill(old, signal.SIGKILL)
    return wait_until(lambda: (r := site.restore_of(name))["agent_pid"] != old and alive(r["agent_pid"]) and r, 30, "a new agent")


def still_talking(connection):
    """Whether ckptd still waits for an answer at this end."""
    try:
        return connection.recv(1 << 16, socket.MSG_DONTWAIT) != b""
    except OSError as error:
        return error.errno == errno.EAGAIN


def independent(site, listener):
    """During one conversation with the hung QEMU, the other restore gets a new agent and ckptctl its answers."""
    for _ in range(10):
        connection, _ = listener.accept()
        with connection:
            restore = kill_agent(site, "live")
            if still_talking(connection):
                assert restore["agent_restarts"] > 0
                return
    raise AssertionError("a hung QEMU holds up another machine's restore")


def silent(site, stand_ins):
    os.makedirs(site.run_dir)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(site.run_dir + "/hung.qmp")
    listener.listen(8)
    listener.settimeout(60)
    with listener:
        write_restore(site, stand_ins, "hung", True)
        write_restore(site, stand_ins, "live", False)
        site.start()
        independent(site, listener)
        assert wait_until(lambda: site.restore_of("hung")["reason"], 60, "the hung QEMU to be told of")
        assert site.restore_of("hung")["phase"] == "running"
        print("a hung QEMU:", site.restore_of("hung")["reason"])
        for _ in range(20):
            restore = kill_agent(site, "live")
        assert restore["agent_restarts"] >= 21, restore
        print("agents replaced:", restore["agent_restarts"])
        # Without waiting for a conversation, however it goes.
        site.stop(timeout_s=60)


def a_server_that_dies(site, stand_ins):
    del stand_ins
    site.start()
    path = f"{site.run_dir}/restore/live/state.json"

    def server():
        with open(path, encoding="utf-8") as file:
            return json.load(file)["disks"][0]["server"]["pid"]

    for _ in range(3):
        old = server()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda o=old: server() != o and alive(server()), 30, "a new disk server")


def over(site, stand_ins):
    """QEMU's end is the restore's: what served it is ended."""
    restore = site.restore_of("live")
    stand_ins.end()
    wait_until(lambda: site.restore_of("live")["phase"] == "ended", 30, "the restore to end")
    wait_until(lambda: not alive(restore["agent_pid"]), 30, "its agent to end")
    time.sleep(0.5)
    assert site.restore_of("live")["agent_pid"] == restore["agent_pid"], "an agent for a restore that is over"


with Site() as shared:
    helpers = StandIns()
    try:
        for case in (silent, a_server_that_dies, over):
            case(shared, helpers)
    except BaseException:
        print(shared.log_text())
        raise
    finally:
        helpers.end()
