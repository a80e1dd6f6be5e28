# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server's end of doc/stream_format.md in Python, for testing QEMU's end: it checks
every message, keeps the newest durable state of each object as plain bytes, and can
misbehave on purpose.

    with Peer(path) as peer:
        ... start QEMU with -object checkpoint-stream,id=ck0,path=... ...
        end = peer.take()              # closes an epoch, acknowledges it
        peer.objects["ram", "pc.ram"]  # bytearray
"""
import os
import socket
import struct
import threading
import time

MAGIC = 0x53504B43
HELLO, BEGIN, DATA, ZERO, END, STATE = 1, 2, 3, 4, 5, 6
WELCOME, TAKE, DURABLE, REFUSE = 65, 66, 67, 68
CLASSES = {1: "ram", 2: "disk", 3: "device"}
MAX_LENGTH = 1048592


class ProtocolError(Exception):
    """QEMU broke the rules of the stream."""


def need(condition, text):
    if not condition:
        raise ProtocolError(text)


class Epoch:
    """What came for one epoch: its objects and the changes to them, in order."""

    def __init__(self, number, kind, objects):
        self.number, self.kind, self.objects = number, kind, objects
        self.changes = []
        self.data_count = self.zero_count = self.data_bytes = 0
        self.pages = {}

    def add(self, number, offset, data, length):
        need(number in self.objects, f"object {number} is not announced")
        kind, name, size = self.objects[number][:3]
        unit = {"ram": 4096, "disk": 512, "device": 1}[kind]
        limit = 64 << 20 if kind == "device" else size
        need(length > 0 and offset % unit == 0 and length % unit == 0, f"{name}: misaligned")
        need(offset + length <= limit, f"{name}: {offset}+{length} passes {limit}")
        self.changes.append((number, offset, data, length))
        if data is None:
            self.zero_count += 1
        else:
            self.data_count += 1
            self.data_bytes += length
        self.pages[kind] = self.pages.get(kind, 0) + length


class Peer:
    """Serves one QEMU at a time. `mode` "auto" offers continue when it may."""

    def __init__(self, path, mode="auto", interval_ms=1000, refuse=None, first_epoch=1, verbose=False):
        self.path, self.mode, self.interval_ms, self.refuse = path, mode, interval_ms, refuse
        self.verbose = verbose
        self.lock = threading.Condition()
        self.objects = {}            # (class, name) -> bytearray; of the newest durable epoch
        self.sizes = {}
        self.durable = 0             # its number
        self.instance = None
        self.next_epoch = first_epoch
        self.open = self.closed = None
        self.ended = None            # figures of the closed epoch
        self.ends = []               # (number, figures) of all
        self.state = None            # (state, remaining, reason)
        self.states = []
        self.hellos = []
        self.modes = []
        self.error = None
        self.acknowledge = True
        self.hold_reading = threading.Event()
        self.hold_reading.set()
        self.bytes_per_s = None      # how fast it reads; None: as fast as it can
        self.connection = None
        self.stopping = False
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # --- the wire

    def _exactly(self, n):
        data = bytearray(n)
        view, got = memoryview(data), 0
        while got < n:
            self.hold_reading.wait()
            k = self.connection.recv_into(view[got:])
            if not k:
                raise ConnectionError("QEMU closed the connection")
            got += k
        return data

    def _message(self):
        magic, kind, reserved, epoch, length, sequence = struct.unpack("<IHHQII", self._exactly(24))
        need(magic == MAGIC and reserved == 0, "bad head")
        need(sequence == self.sequence_in, f"sequence {sequence}, not {self.sequence_in}")
        need(length <= MAX_LENGTH, f"length {length}")
        self.sequence_in += 1
        if self.bytes_per_s:
            time.sleep(length / self.bytes_per_s)
        return kind, epoch, self._exactly(length)

    def send(self, kind, epoch=0, payload=b"", sequence=None):
        with self.lock:
            if sequence is None:
                sequence = self.sequence_out
            self.connection.sendall(struct.pack("<IHHQII", MAGIC, kind, 0, epoch, len(payload),
                                                sequence) + payload)
            self.sequence_out += 1

    def _run(self):
        while not self.stopping:
            try:
                self.connection = self.listener.accept()[0]
            except OSError:
                return
            self.sequence_in = self.sequence_out = 0
            try:
                self._serve()
            except (ConnectionError, OSError) as error:
                if self.verbose:
                    print("peer: connection ended:", error)
            except Exception as error:  # pylint: disable=broad-except  # a thread's own; whoever waits is told
                self.error = error
                print("peer: PROTOCOL ERROR:", error)
            with self.lock:
                self.open = self.closed = None
                try:
                    self.connection.close()
                except OSError:
                    pass
                self.lock.notify_all()

    def _serve(self):
        kind, epoch, payload = self._message()
        need(kind == HELLO and epoch == 0, "HELLO expected")
        self._hello(payload)
        while True:
            kind, epoch, payload = self._message()
            with self.lock:
                {BEGIN: self._begin, DATA: self._data, ZERO: self._zero, END: self._end,
                 STATE: self._state}[kind](epoch, payload)
                self.lock.notify_all()

    def _hello(self, p):
        version, page, instance, uuid, acked, closed = struct.unpack_from("<II16s16sQQ", p)
        need(version == 1 and page == 4096, "version or page size")
        at, strings = 56, []
        for _ in range(3):
            n = struct.unpack_from("<H", p, at)[0]
            strings.append(bytes(p[at + 2:at + 2 + n]).decode())
            at += 2 + n
        need(at == len(p), "length of HELLO")
        hello = dict(instance=bytes(instance), uuid=bytes(uuid), acked=acked, closed=closed,
                     qemu=strings[0], machine=strings[1], base=strings[2])
        self.hellos.append(hello)
        if self.refuse is not None:
            text = self.refuse.encode()
            self.send(REFUSE, 0, struct.pack("<H", len(text)) + text)
            raise ConnectionError("refused")
        base = int(hello["base"].rsplit("@", 1)[1]) if hello["base"] else None
        may = self.durable and (self.durable in (closed, acked) or (not acked and base == self.durable))
        full = self.mode == "full" or not may
        need(not (self.mode == "continue" and full), "QEMU and peer know nothing in common")
        self.full = full
        self.modes.append("full" if full else "continue")
        with self.lock:
            self.state = None
        self.send(WELCOME, 0, struct.pack("<IIQQII", 1, 1 if full else 2, self.next_epoch,
                                          self.durable, self.interval_ms, 0))

    def _begin(self, epoch, p):
        kind, count = struct.unpack_from("<II", p)
        need(count <= 1024, "objects")
        at, objects = 8, {}
        for _ in range(count):
            number, cls, size, page, flags, n = struct.unpack_from("<IIQIIH", p, at)
            name = bytes(p[at + 26:at + 26 + n]).decode()
            need(1 <= n <= 255 and number not in objects and number < 1024, "object")
            need((CLASSES[cls], name) not in [o[:2] for o in objects.values()], "name used twice")
            objects[number] = (CLASSES[cls], name, size, page, flags)
            at += 26 + n
        need(at == len(p), "length of EPOCH_BEGIN")
        if self.open is None:
            need(epoch == self.next_epoch and kind == (1 if self.full else 2), "first epoch")
        else:
            need(epoch == self.open.number + 1 and kind == 2 and self.closed is None, "next epoch")
            self.closed = self.open
        self.open = Epoch(epoch, kind, objects)
        self.next_epoch = epoch + 1

    def _epoch(self, number):
        for epoch in (self.open, self.closed):
            if epoch is not None and epoch.number == number:
                return epoch
        raise ProtocolError(f"epoch {number} is neither open nor closed")

    def _data(self, epoch, p):
        number, reserved, offset = struct.unpack_from("<IIQ", p)
        need(reserved == 0, "reserved")
        self._epoch(epoch).add(number, offset, p[16:], len(p) - 16)

    def _zero(self, epoch, p):
        number, reserved, offset, length = struct.unpack("<IIQQ", p)
        need(reserved == 0, "reserved")
        self._epoch(epoch).add(number, offset, None, length)

    def _end(self, epoch, p):
        f = struct.unpack("<QQQQQIIIIIIQQ", p)
        need(self.closed is not None and self.closed.number == epoch, "END of another epoch")
        c = self.closed
        need(f[:3] == (c.data_count, c.zero_count, c.data_bytes),
             f"counts {f[:3]}, not {(c.data_count, c.zero_count, c.data_bytes)}")
        figures = dict(zip(("data", "zero", "bytes", "wall_ns", "vm_ns", "run_state", "pause_us",
                            "drain_us", "device_us", "dirty_us", "copy_us", "ram_pages",
                            "disk_bytes"), f))
        figures["number"] = epoch
        self._apply(c)
        self.durable = epoch
        self.closed = None
        self.ends.append((epoch, figures))
        if self.acknowledge:
            self.send(DURABLE, epoch)

    def _state(self, epoch, p):
        state, reserved, remaining, n = struct.unpack_from("<IIQH", p)
        need(1 <= state <= 3 and reserved == 0 and len(p) == 18 + n, "STATE")
        self.state = (state, remaining, bytes(p[18:]).decode())
        self.states.append(self.state)

    def _apply(self, epoch):
        old = {} if epoch.kind == 1 else self.objects
        new = {}
        for number, (kind, name, size, *_) in epoch.objects.items():
            content = old.get((kind, name), bytearray()) if kind != "device" else bytearray()
            if kind != "device":
                if len(content) > size:
                    del content[size:]
                elif len(content) < size:
                    content.extend(bytes(size - len(content)))
            new[kind, name] = content
        for number, offset, data, length in epoch.changes:
            kind, name = epoch.objects[number][:2]
            content = new[kind, name]
            if kind == "device":
                need(offset == len(content), "device state has gaps")
            if data is None:
                content[offset:offset + length] = bytes(length)
            else:
                content[offset:offset + length] = data
        self.objects = new

    # --- for tests

    def wait(self, condition, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        with self.lock:
            while not condition():
                if self.error:
                    raise self.error
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"peer: state {self.state}, open "
                                       f"{self.open and self.open.number}, durable {self.durable}")
                self.lock.wait(min(left, 0.2))
            if self.error:
                raise self.error

    def ask(self):
        """Send TAKE for the open epoch; its number."""
        self.wait(lambda: self.open is not None)
        number = self.open.number
        self.send(TAKE, number, bytes(8))
        return number

    def take(self, timeout_s=60):
        """Close the open epoch; its figures. Asks again after a new connection."""
        count = len(self.ends)
        deadline = time.monotonic() + timeout_s
        while len(self.ends) == count:
            connections = len(self.hellos)
            try:
                self.ask()
            except OSError:
                time.sleep(0.1)
            self.wait(lambda: len(self.ends) > count or len(self.hellos) > connections,
                      max(0.1, deadline - time.monotonic()))
        return self.ends[count][1]

    def drop(self):
        """End the connection, as a daemon that died."""
        with self.lock:
            if self.connection:
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.stopping = True
        self.hold_reading.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop()
        self.thread.join(5)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
