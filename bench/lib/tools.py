# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work inside a Debian guest, begun from outside, and the guest that has gcc and an SSH server too (tests/guests/README.md)."""
import os
import shutil
import subprocess
import time

import frame
from guest import guest_files, qemu_dir

# What the guest builds: its own workload, from the sources that it was built from here.
BUILD = "gcc -std=gnu11 -O2 -g -Wall -Wextra -static -pthread -o /tmp/workload /src/*.c"
# On the Debian guest's disk, and what it holds: tests/guests/debian/configure.
FILE = "/guest/var/www/html/data.txt"
FILE_SUM = "seq 1 2500000 | head -c 16777216 | sha256sum"


def shell(guest, command):
    """A command in the guest, by the one service that runs commands for its clients."""
    program = command.replace("'", "''").replace("\n", " ")
    return called(["psql", "-h", "127.0.0.1", "-p", str(guest.forwards[5432]), "-U", "postgres", "-XqtA",
                   "-c", f"create temp table said (line text); copy said from program '{program}'; select line from said"]).strip()


def wait_shell(guest, limit_s=300):
    """The workload, which says that a guest is ready, may be there long before PostgreSQL is."""
    end = time.monotonic() + limit_s
    while True:
        try:
            shell(guest, "true")
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def called(command, said=""):
    """What a client of the guest says; behind a link, or with an emulated CPU that is shared, all takes long."""
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=600, check=False, env=dict(os.environ, PGCONNECT_TIMEOUT="120"))
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Tools:
    """`machine` makes a Protected the Debian guest with the tools' disk beside its own; its port 22 must be forwarded."""

    def __init__(self, bench):
        if not shutil.which("sftp"):
            raise frame.Skip("sftp is not installed (scripts/install-packages bench)")
        self.directory = bench.directory("tools")
        self.key = self.directory + "/key"
        subprocess.check_call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.key])
        with open(self.key + ".pub", encoding="ascii") as public:
            who = public.read().split()[1]
        self.machine = {"guest": "debian", "disks": [self.overlay(name) for name in ("debian", "tools")], "append": f"root=/dev/vdb ckpt.ssh={who}"}
        self.file_sum = subprocess.check_output(FILE_SUM, shell=True, text=True)

    def overlay(self, name):
        path = f"{self.directory}/{name}.qcow2"
        subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", guest_files(name)["disk"], path])
        return path, "qcow2"

    def build(self, guest):
        """Seconds of GCC."""
        start = time.monotonic()
        self.client("ssh", guest, command=[BUILD])
        return time.monotonic() - start

    def download(self, guest):
        """Seconds of SFTP; what came must be what is there."""
        path = self.directory + "/downloaded"
        start = time.monotonic()
        self.client("sftp", guest, "-b", "-", said=f"get {FILE} {path}\n")
        seconds = time.monotonic() - start
        found = subprocess.check_output(["sha256sum"], stdin=open(path, "rb"), text=True)
        os.unlink(path)
        if found != self.file_sum:
            raise RuntimeError(f"{FILE}: what SFTP has brought is something else")
        return seconds

    def client(self, program, guest, *options, command=(), said=""):
        # Nothing of the user's is read or written, and a guest has a new host key at each boot.
        called([program, "-F", "none", "-i", self.key, *options, "-o", f"Port={guest.forwards[22]}", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1", *command], said)
