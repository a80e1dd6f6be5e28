#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian guest boots and all of its services answer over the network."""
import os
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from guest import Guest  # noqa: E402


def until(what, ask, timeout_s=90):
    """Ask again until there is an answer; services come up one after the other."""
    start = time.monotonic()
    while True:
        try:
            answer = ask()
            print(f"{what} after {time.monotonic() - start:.1f} s more")
            return answer
        except (OSError, subprocess.CalledProcessError):
            if time.monotonic() - start > timeout_s:
                raise
            time.sleep(0.2)


with Guest("debian", memory_mib=512, cpus=2) as guest:
    guest.start(ports=(7, 80, 5432, 6379))
    print(f"workload up after {guest.wait_ready():.1f} s")

    def redis():
        with socket.create_connection(("127.0.0.1", guest.forwards[6379]), 5) as s:
            s.sendall(b"SET key value\r\nGET key\r\n")
            answer = b""
            while answer.count(b"\n") < 3:
                data = s.recv(100)
                if not data:
                    raise OSError("closed")
                answer += data
            return answer

    def page():
        url = f"http://127.0.0.1:{guest.forwards[80]}/index.html"
        return urllib.request.urlopen(url, timeout=5).read()

    def postgres():
        return subprocess.check_output(
            ["psql", "-h", "127.0.0.1", "-p", str(guest.forwards[5432]), "-U", "postgres", "-tAc",
             "create table if not exists t (n int); insert into t values (42); select n from t"],
            env=dict(os.environ, PGCONNECT_TIMEOUT="5"), stderr=subprocess.DEVNULL, text=True)

    assert until("redis", redis) == b"+OK\r\n$5\r\nvalue\r\n"
    assert b"protected machine" in until("nginx", page)
    assert "42" in until("postgres", postgres)
    assert guest.cmd("load 32 1000 20") == "ok"
    time.sleep(2)
    answer = guest.cmd("verify", timeout_s=60)
    print(answer)
    assert answer.startswith("ok pages=8192")
