# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients of the demo's guest, as they are in the world: they write, remember what was confirmed, and come back by
themselves when the machine was away."""
import os
import socket
import subprocess
import threading
import time
import urllib.request


class Client(threading.Thread):
    """Calls step() again and again; keeps (time, number) of what was confirmed."""

    def __init__(self, name, pause_s=0.02):
        super().__init__(daemon=True)
        self.name, self.pause_s = name, pause_s
        self.confirmed = []
        self.number = 0
        self.over = threading.Event()

    def step(self, number):
        raise NotImplementedError

    def disconnect(self):
        pass

    def run(self):
        while not self.over.is_set():
            try:
                self.step(self.number)
                self.confirmed.append((time.time(), self.number))
                self.number += 1
            except (OSError, ValueError, subprocess.SubprocessError):
                self.disconnect()
            self.over.wait(self.pause_s)

    def stop(self):
        self.over.set()
        self.join(30)

    def first_after(self, instant):
        return next((t for t, _ in self.confirmed if t >= instant), None)

    def must_be_there(self, instant):
        """Numbers that were confirmed before the instant."""
        return [n for t, n in self.confirmed if t < instant]


class LineClient(Client):
    """Asks the guest's workload for its counter over TCP."""

    def __init__(self, port):
        super().__init__("workload")
        self.port = port

    def step(self, number):
        with socket.create_connection(("127.0.0.1", self.port), 2) as s:
            s.settimeout(2)
            s.sendall(b"counter\n")
            int(s.makefile().readline())


class RedisClient(Client):
    def __init__(self, port):
        super().__init__("redis")
        self.port, self.socket = port, None

    def ask(self, line):
        if not self.socket:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 2)
            self.socket.settimeout(2)
        self.socket.sendall(line.encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n") or (answer.startswith(b"$") and not answer.startswith(b"$-1") and answer.count(b"\r\n") < 2):
            data = self.socket.recv(4096)
            if not data:
                raise OSError("closed")
            answer += data
        return answer

    def disconnect(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def step(self, number):
        if self.ask(f"SET key{number} value{number}") != b"+OK\r\n":
            raise ValueError("not stored")

    def missing(self, numbers):
        return [n for n in numbers if self.ask(f"GET key{n}").split(b"\r\n")[1] != f"value{n}".encode()]


class PostgresClient(Client):
    def __init__(self, port):
        super().__init__("postgres", pause_s=0.1)
        self.port, self.made = port, False

    def query(self, sql, timeout_s=15):
        return subprocess.check_output(["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-qtAc", sql], text=True,
                                       stderr=subprocess.DEVNULL, timeout=timeout_s, env=dict(os.environ, PGCONNECT_TIMEOUT="3"))

    def step(self, number):
        if not self.made:
            self.query("create table if not exists demo (n int primary key)")
            self.made = True
        self.query(f"insert into demo values ({number}) on conflict do nothing")

    def missing(self, numbers):
        there = {int(line) for line in self.query("select n from demo").split()}
        return [n for n in numbers if n not in there]


class WebClient(Client):
    def __init__(self, port):
        super().__init__("nginx", pause_s=0.1)
        self.url = f"http://127.0.0.1:{port}/index.html"

    def step(self, number):
        with urllib.request.urlopen(self.url, timeout=3) as page:
            if b"protected machine" not in page.read():
                raise ValueError("another page")
