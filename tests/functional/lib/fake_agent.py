# SPDX-License-Identifier: LGPL-2.1-or-later
"""A restore agent in a thread, with RAM from bytes in memory: for testing QEMU's end of
doc/restore_format.md without a store, and for misbehaving on purpose.

    with FakeAgent(path, {"pc.ram": b"..."}) as agent:
        ... start QEMU ...
        agent.fill_all(); agent.done()
"""
import ctypes
import errno
import fcntl
import os
import re
import select
import socket
import struct
import threading

MAGIC = 0x52504B43
HELLO, MEMORY, SIZES, READY, DONE, REFUSE = 1, 2, 65, 66, 67, 68
UFFDIO_WAKE, UFFDIO_COPY, UFFDIO_ZEROPAGE = 0x8010AA02, 0xC028AA03, 0xC020AA04


def ram_blocks(guest):
    """{name: (host address, used length)} of a QEMU, as the monitor prints them."""
    text = guest.qmp("human-monitor-command", **{"command-line": "info ramblock"})
    blocks = {}
    for line in text.splitlines()[1:]:
        match = re.match(r"\s*(\S+)\s+\d+ [KM]iB\s+0x\w+ 0x(\w+) 0x\w+ 0x(\w+)", line)
        assert match, line
        blocks[match.group(1)] = (int(match.group(3), 16), int(match.group(2), 16))
    return blocks


def read_ram(guest, names=None):
    """{name: bytes} of a stopped QEMU's RAM blocks, read past QEMU."""
    content = {}
    with open(f"/proc/{guest.process.pid}/mem", "rb", buffering=0) as memory:
        for name, (address, length) in ram_blocks(guest).items():
            if names is None or name in names:
                memory.seek(address)
                data = bytearray()
                while len(data) < length:
                    data += memory.read(length - len(data))
                content[name] = bytes(data)
    return content


class FakeAgent:
    """Serves one QEMU. `sizes` and `before_ready` let a test misbehave."""

    def __init__(self, path, ram, sizes=None, before_ready=None):
        self.path, self.ram, self.before_ready = path, ram, before_ready
        self.sizes = sizes or [(name, len(data)) for name, data in ram.items()]
        self.faults = 0
        self.phases = []
        self.blocks, self.uffd, self.connection, self.error = [], None, None, None
        self.buffers = {name: ctypes.create_string_buffer(data, len(data))
                        for name, data in ram.items()}
        self.stop_read, self.stop_write = os.pipe()
        self.ready = threading.Event()
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            if not select.select([self.listener, self.stop_read], [], [])[0][0] is self.listener:
                return
            self.connection = self.listener.accept()[0]
            self._handshake()
            self._serve()
        except Exception as error:  # pylint: disable=broad-except  # told to whoever closes it
            self.error = error

    def _receive(self):
        head, fds = b"", []
        while len(head) < 24:
            data, new, _, _ = socket.recv_fds(self.connection, 24 - len(head), 1)
            if not data:
                raise ConnectionError("QEMU has gone")
            head += data
            fds += new
        magic, kind, reserved, epoch, length, _ = struct.unpack("<IHHQII", head)
        assert magic == MAGIC and reserved == 0 and epoch == 0
        payload = b""
        while len(payload) < length:
            payload += self.connection.recv(length - len(payload))
        return kind, payload, fds

    def send(self, kind, payload=b"", sequence=None):
        if sequence is None:
            sequence, self.sequence = self.sequence, self.sequence + 1
        self.connection.sendall(struct.pack("<IHHQII", MAGIC, kind, 0, 0, len(payload), sequence)
                                + payload)

    @staticmethod
    def _blocks(payload):
        count, reserved = struct.unpack_from("<II", payload)
        assert reserved == 0
        at, blocks = 8, []
        for _ in range(count):
            host, used, _, page, length = struct.unpack_from("<QQQQH", payload, at)
            blocks.append((payload[at + 34:at + 34 + length].decode(), host, used, page))
            at += 34 + length
        assert at == len(payload)
        return blocks

    def _handshake(self):
        self.sequence = 0
        kind, payload, _ = self._receive()
        version, phase = struct.unpack_from("<II", payload)
        assert kind == HELLO and version == 1
        self.phases.append(phase)
        if phase == 0:
            body = b"".join(struct.pack("<QH", size, len(name)) + name.encode()
                            for name, size in self.sizes)
            self.send(SIZES, struct.pack("<II", len(self.sizes), 0) + body)
        kind, payload, fds = self._receive()
        assert kind == MEMORY and len(fds) == 1
        self.uffd = fds[0]
        self.blocks = self._blocks(payload)
        for _, host, used, _ in self.blocks:
            fcntl.ioctl(self.uffd, UFFDIO_WAKE, struct.pack("<QQ", host, used))
        if self.before_ready:
            self.before_ready(self)
        else:
            self.send(READY)
        self.ready.set()

    def _serve(self):
        while True:
            readable = select.select([self.uffd, self.stop_read], [], [])[0]
            if self.stop_read in readable:
                return
            try:
                message = os.read(self.uffd, 32)
            except BlockingIOError:
                continue
            address = struct.unpack_from("<Q", message, 16)[0]
            self.faults += 1
            for name, host, used, page in self.blocks:
                if host <= address < host + used:
                    self.fill(name, (address - host) // page * page, page)

    def fill(self, name, offset, length):
        """Copies part of a block; parts that are there already are passed over."""
        host, page = next((h, p) for n, h, _, p in self.blocks if n == name)
        source = ctypes.addressof(self.buffers[name])
        end = offset + length
        while offset < end:
            request = bytearray(struct.pack("<QQQQq", host + offset, source + offset,
                                            end - offset, 0, 0))
            try:
                fcntl.ioctl(self.uffd, UFFDIO_COPY, request)
                return
            except OSError as error:
                done = struct.unpack_from("<q", request, 32)[0]
                if done > 0:
                    offset += done
                elif error.errno == errno.EEXIST:
                    fcntl.ioctl(self.uffd, UFFDIO_WAKE, struct.pack("<QQ", host + offset, page))
                    offset += page
                elif error.errno != errno.EAGAIN:
                    raise

    def fill_all(self):
        for name, _, used, _ in self.blocks:
            self.fill(name, 0, used)

    def done(self):
        self.send(DONE)

    def die(self):
        """As a SIGKILL would: the descriptor and the connection are simply gone."""
        os.write(self.stop_write, b"x")
        self.thread.join()
        self.listener.close()
        if self.connection:
            self.connection.close()
        if self.uffd is not None:
            os.close(self.uffd)
        self.uffd = None
        # A QEMU that goes away is no error; one that says what the protocol does not allow is.
        if self.error and not isinstance(self.error, OSError):
            raise self.error

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.listener.fileno() >= 0:
            self.die()
