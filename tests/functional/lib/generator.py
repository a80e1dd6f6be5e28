# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines without QEMU, and a client of the control socket that is not ckptctl."""
import json
import os
import socket
import subprocess
import tempfile

from ckpt_site import BUILD


class Generator:
    """stream_gen playing machines; ended by its pid. What it prints goes to a file: a pipe that nobody reads would stop it."""

    def __init__(self, site, names, *options):
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([BUILD + "/tests/tools/stream_gen", *options, *(f"{site.run_dir}/{name}.sock" for name in names)],
                                        stdout=self.output, stderr=subprocess.STDOUT)

    def end(self):
        """Its exit status and all it printed."""
        self.process.wait(120)
        self.output.seek(0)
        with self.output:
            return self.process.returncode, self.output.read()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.output.close()


def connect(site, name="ckptd"):
    """It gives up well before ckptd's usual limit of 30 s."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(15)
    s.connect(os.path.join(site.run_dir, name + ".sock"))
    return s


def ask(site, **request):
    """The answer to one request, as it comes."""
    with connect(site) as s:
        s.sendall(json.dumps(request).encode() + b"\n")
        with s.makefile("rb") as answers:
            return json.loads(answers.readline())
