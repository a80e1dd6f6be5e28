# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest agent of a Debian guest, for tests: what runs in the guest is told to, and asked, through it.

    devices = agent_devices(path)        # QEMU's arguments
    agent = AgentSocket(path)            # a plain QEMU's; one client at a time has it
    agent.shell("cat /run/fsfreeze-log")
"""
import base64
import json
import socket
import time

NAME = "org.qemu.guest_agent.0"


def agent_devices(path):
    """The second port: the first is the workload's."""
    return ["-device", "virtio-serial-pci,id=serial0", "-chardev", f"socket,id=ga0,path={path},server=on,wait=off",
            "-device", f"virtserialport,bus=serial0.0,nr=2,chardev=ga0,name={NAME}"]


class AgentError(Exception):
    """The agent refuses, in these words."""


class Agent:
    """`ask(command, arguments)` is how it is reached."""

    def ask(self, command, arguments, timeout_s=30):
        raise NotImplementedError

    def shell(self, text, timeout_s=60):
        """What the guest's shell prints."""
        started = self.ask("guest-exec", {"path": "/bin/sh", "arg": ["-c", text], "capture-output": True})
        deadline = time.monotonic() + timeout_s
        while not (status := self.ask("guest-exec-status", {"pid": started["pid"]}))["exited"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"'{text}' does not end within {timeout_s} s")
            time.sleep(0.1)
        return base64.b64decode(status.get("out-data", "")).decode()

    def background(self, text):
        self.ask("guest-exec", {"path": "/bin/sh", "arg": ["-c", text]})

    def frozen(self):
        return self.ask("guest-fsfreeze-status", {}) == "frozen"

    def writes(self):
        """The guest's file systems can be written."""
        return self.shell("echo written >/var/tmp/probe && sync /var/tmp/probe && cat /var/tmp/probe") == "written\n"

    def hook_log(self):
        return self.shell("cat /run/fsfreeze-log 2>/dev/null").split()

    def hang(self, seconds):
        """The agent stands still for so long, from when this returns or a little before."""
        self.background(f"p=$(pidof qemu-ga); sleep 0.5; kill -STOP $p; sleep {seconds}; kill -CONT $p")
        deadline = time.monotonic() + 30
        while self.answers():
            assert time.monotonic() < deadline, "the agent does not stand still"
            time.sleep(0.2)

    def answers(self):
        try:
            return self.ask("guest-ping", {}, 2) == {}
        except (OSError, AgentError):
            return False


class AgentOfDomain(Agent):
    """libvirt has the channel."""

    def __init__(self, site, domain):
        self.site, self.domain = site, domain

    def ask(self, command, arguments, timeout_s=30):
        request = json.dumps({"execute": command, "arguments": arguments})
        try:
            answer = self.site.virsh("qemu-agent-command", self.domain, "--timeout", str(timeout_s), request, timeout_s=timeout_s + 30)
        except Exception as error:
            raise AgentError(str(error)) from error
        return json.loads(answer)["return"]


class AgentSocket(Agent):
    def __init__(self, path):
        self.path = path

    def ask(self, command, arguments, timeout_s=30):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(self.path)
            lines = connection.makefile("rb")
            number = time.monotonic_ns() & 0x7FFFFFFF
            connection.sendall(b"\xff" + json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": number}}).encode() + b"\n")
            while self._answer(lines).get("return") != number:
                continue
            connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            answer = self._answer(lines)
        if "error" in answer:
            raise AgentError(answer["error"]["desc"])
        return answer["return"]

    @staticmethod
    def _answer(lines):
        line = lines.readline()
        if not line:
            raise ConnectionError("the agent's channel was closed")
        try:
            return json.loads(line[line.rfind(b"\xff") + 1:])
        except ValueError:
            return {}
