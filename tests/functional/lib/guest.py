# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start a QEMU with one of our guests, talk to it, and leave nothing behind.

    from guest import Guest
    with Guest("linux-small", memory_mib=256) as g:
        g.start(["-object", "checkpoint-stream,id=ck0,path=..."])
        g.wait_ready()
        g.cmd("load 64 2000 50")
        g.qmp("query-status")
        assert g.cmd("verify").startswith("ok")

A restored machine: same Guest, start(["-incoming", "defer", ...]), no wait_ready.
Only the process that was started is ever killed, by its pid.
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def qemu_dir():
    """Directory of the binaries: $CKPT_QEMU_DIR, or those of the checkout's series."""
    given = os.environ.get("CKPT_QEMU_DIR")
    if given:
        return given
    return subprocess.check_output([ROOT + "/scripts/qemu", "path"], text=True).strip()


def guest_files(name):
    """Build the guest if needed; its files by name (kernel, initrd, disk)."""
    out = subprocess.check_output([ROOT + "/tests/guests/build", name], text=True)
    return dict(line.split(" ", 1) for line in out.splitlines())


class QmpError(Exception):
    """QEMU refused a command; the text is its description."""


class Qmp:
    """A QMP connection. Events that arrive meanwhile are kept in `events`."""

    def __init__(self, path, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.buffer = b""
        self.events = []
        self._read(timeout_s)  # the greeting
        self.cmd("qmp_capabilities")

    def _read(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise TimeoutError(f"QMP: no message in {timeout_s} s")
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("QMP: QEMU closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def cmd(self, command, timeout_s=30, **arguments):
        """Returns what the command returns; `_` in argument names is written `-`."""
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            reply = self._read(timeout_s)
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise QmpError(reply["error"]["desc"])
            else:
                return reply["return"]

    def wait_event(self, name, timeout_s=30):
        """The next event of that name, also one that is in `events` already."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            message = self._read(timeout_s)
            if "event" in message:
                self.events.append(message)

    def close(self):
        self.socket.close()


class Guest:
    """One machine. `machine`, `accel`, `memory_mib`, `cpus` go to QEMU as they are.

    disks: list of (path, format); None gives linux-small a fresh raw disk of 64 MiB
    and debian an overlay on its image; they are `disk_device`s. `directory` (default: a
    temporary one that close() removes) holds sockets, logs and those disks.
    """

    def __init__(self, name="linux-small", machine="q35", accel="tcg,thread=multi",
                 memory_mib=256, cpus=1, disks=None, net=True, directory=None, append="",
                 disk_device="virtio-blk-pci"):
        self.name, self.machine, self.accel = name, machine, accel
        self.memory_mib, self.cpus, self.net, self.append = memory_mib, cpus, net, append
        self.disk_device = disk_device
        self.own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="ckpt-guest-")
        self.files = guest_files(name)
        self.disks = self._default_disks() if disks is None else disks
        self.process = self.qmp_connection = self.line = None
        self.forwards = {}

    def path(self, name):
        return os.path.join(self.directory, name)

    def _default_disks(self):
        if self.name == "linux-small":
            with open(self.path("disk.raw"), "ab") as disk:
                disk.truncate(64 << 20)
            return [(self.path("disk.raw"), "raw")]
        if self.name == "debian":
            subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", "qcow2", "-F",
                                   "qcow2", "-b", self.files["disk"], self.path("disk.qcow2")])
            return [(self.path("disk.qcow2"), "qcow2")]
        return []

    def command_line(self, ports=(7,)):
        """QEMU's arguments; forwards each guest TCP port of `ports` to a free host port."""
        # Without -nodefaults SeaBIOS 1.16.2 waits for ever for q35's empty CD-ROM.
        args = [qemu_dir() + "/qemu-system-x86_64", "-nodefaults", "-no-user-config",
                "-display", "none", "-M", self.machine, "-accel", self.accel,
                "-m", str(self.memory_mib), "-smp", str(self.cpus),
                "-qmp", f"unix:{self.path('qmp.sock')},server=on,wait=off",
                "-serial", f"file:{self.path('console.log')}",
                "-serial", f"unix:{self.path('line.sock')},server=on,wait=off",
                "-kernel", self.files["kernel"]]
        if self.name == "bare":
            args += ["-append", self.append]
        else:
            root = " root=/dev/vda" if self.name == "debian" else ""
            args += ["-initrd", self.files["initrd"],
                     "-append", f"console=ttyS0 quiet panic=-1{root} {self.append}".strip()]
        for number, (path, disk_format) in enumerate(self.disks):
            args += ["-blockdev", f"driver=file,filename={path},node-name=file{number}",
                     "-blockdev", f"driver={disk_format},file=file{number},node-name=disk{number}",
                     "-device", f"{self.disk_device},drive=disk{number},id=vd{number}"]
        if self.net and self.name != "bare":
            self.forwards = {port: free_port() for port in ports}
            rules = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{port}"
                            for port, host in self.forwards.items())
            args += ["-netdev", f"user,id=net0{rules}", "-device", "virtio-net-pci,netdev=net0"]
        return args

    def start(self, extra_args=(), ports=(7,)):
        """Start QEMU; returns when QMP answers (the guest itself may still be booting)."""
        self.log = open(self.path("qemu.log"), "ab")
        self.process = subprocess.Popen(self.command_line(ports) + list(extra_args),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.qmp_connection = Qmp(self.path("qmp.sock"))
        except OSError as error:
            raise RuntimeError(f"QEMU did not start: {self.qemu_log()}") from error
        return self

    def qemu_log(self):
        with open(self.path("qemu.log"), errors="replace") as log:
            return log.read()[-2000:]

    def qmp(self, command, timeout_s=30, **arguments):
        return self.qmp_connection.cmd(command, timeout_s, **arguments)

    def cmd(self, command, timeout_s=30):
        """One command of the line protocol (tests/guests/README.md) over the second
        serial port; the bare guest has its protocol on the same socket."""
        if self.line is None:
            self.line = socket.socket(socket.AF_UNIX)
            self.line.connect(self.path("line.sock"))
        self.line.sendall(command.encode() + b"\n")
        answer = b""
        deadline = time.monotonic() + timeout_s
        while not answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.line], [], [], left)[0]:
                raise TimeoutError(f"guest gave no answer to '{command}' in {timeout_s} s")
            data = self.line.recv(4096)
            if not data:
                raise ConnectionError(f"QEMU is gone: {self.qemu_log()}")
            answer += data
        return answer.decode(errors="replace").strip()

    def wait_ready(self, timeout_s=120):
        """Wait for the first useful answer of the guest; returns the seconds it took."""
        start = time.monotonic()
        while time.monotonic() - start < timeout_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU ended: {self.qemu_log()}")
            try:
                # What was sent before the guest listened may be answered late or
                # not at all: a fresh connection each time.
                self.cmd("counter", timeout_s=1)
                self._settle()
                return time.monotonic() - start
            except (TimeoutError, ConnectionError):
                # QEMU may take the end of the connection before for this one's.
                self.line.close()
                self.line = None
        raise TimeoutError(f"the guest is not up after {timeout_s} s: {self._where_it_is()}")

    def _where_it_is(self):
        """What tells a slow guest from one that waits for an interrupt for ever: it is seen too seldom to be looked at by hand."""
        with open(self.path("console.log"), errors="replace") as console:
            told = [console.read()[-2000:]]
        for command in ["info status", "info registers -a", *(f"info lapic {cpu}" for cpu in range(self.cpus))]:
            try:
                told.append(self.qmp("human-monitor-command", command_line=command))
            except (OSError, QmpError) as error:
                told.append(f"{command}: {error}")
        # Vector registers and the like are no help.
        return re.sub(r"(?m)^(XMM|YMM|FPR|FCW|Opmask|ZMM|DR|[ECSDFG]S ?=).*\n", "", "\n".join(told).replace("\r", ""))

    def _settle(self):
        """Drop answers to earlier questions that are still on their way."""
        while select.select([self.line], [], [], 0.2)[0]:
            if not self.line.recv(4096):
                break

    def tcp_cmd(self, command, port=7, timeout_s=10):
        """The same over the network, one connection for each command."""
        with socket.create_connection(("127.0.0.1", self.forwards[port]), timeout_s) as s:
            s.sendall(command.encode() + b"\n")
            return s.makefile().readline().strip()

    def kill(self):
        """SIGKILL, as a host that dies; the files stay for a restore."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()
            self.log.close()
        if self.qmp_connection:
            self.qmp_connection.close()
        if self.line:
            self.line.close()
        self.process = self.qmp_connection = self.line = None

    def close(self):
        self.kill()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
