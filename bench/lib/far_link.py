# SPDX-License-Identifier: LGPL-2.1-or-later
"""A link between a restore and its store, made in user space: the agent reads through bench/far_agent.cc, and nbdkit with its own filters."""
import contextlib
import os
import shutil
import struct
import time

FIELDS = struct.Struct("<QQQQQ")  # as struct Link of bench/far_agent.cc
NBDKIT = """#!/bin/sh
exec {nbdkit} --filter=delay --filter=rate "$@" rdelay={ms}ms rate={bits}
"""


class FarLink:
    """For restores that are begun inside of `with`."""

    def __init__(self, bench, megabits, round_trip_ms):
        self.megabits, self.round_trip_ms = megabits, round_trip_ms
        self.agent = bench.program("far_agent")
        self.directory = bench.directory(f"link-{time.monotonic_ns()}")
        self.path = self.directory + "/link"
        with open(self.path, "wb") as file:
            file.write(FIELDS.pack(megabits * 125_000, round_trip_ms * 1000, 0, 0, 0))
        with open(self.directory + "/nbdkit", "w", encoding="utf-8") as file:
            file.write(NBDKIT.format(nbdkit=shutil.which("nbdkit"), ms=round_trip_ms, bits=megabits * 1_000_000))
        os.chmod(self.directory + "/nbdkit", 0o755)

    def carried(self):
        """Bytes of memory, and requests for them; the disks have a link of their own."""
        with open(self.path, "rb") as file:
            _, _, carried_bytes, _, requests = FIELDS.unpack(file.read())
        return carried_bytes, requests

    def seconds_alone(self):
        """What it takes for that and nothing else."""
        return self.carried()[0] / (self.megabits * 125_000)

    @contextlib.contextmanager
    def used(self):
        mine = {"CKPT_RESTORE_AGENT": self.agent, "CKPT_FAR_LINK": self.path, "PATH": self.directory + ":" + os.environ["PATH"]}
        before = {name: os.environ.get(name) for name in mine}
        os.environ.update(mine)
        try:
            yield self
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
