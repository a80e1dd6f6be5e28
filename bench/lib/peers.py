# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that others keep files with, each with a repository of its own: what they store is measured in bytes on disk."""
import os
import shutil
import subprocess


class Peer:
    """`keep()` backs a directory up once more."""
    name = program = ""

    def __init__(self, directory):
        self.repository = directory + "/repository"
        # Nothing of the user's is read or written.
        self.environment = dict(os.environ, HOME=directory, **self.settings(directory))
        self.begin()

    def settings(self, directory):
        raise NotImplementedError

    def begin(self):
        raise NotImplementedError

    def keep(self, directory, number):
        raise NotImplementedError

    def call(self, *arguments, cwd=None):
        done = subprocess.run([self.program, *arguments], env=self.environment, cwd=cwd, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=600, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.program} {arguments[0]}: exit {done.returncode}: {done.stderr.strip()}")

    def stored_bytes(self):
        return tree_bytes(self.repository)

    @classmethod
    def installed(cls):
        return shutil.which(cls.program) is not None


class Restic(Peer):
    name = program = "restic"

    def settings(self, directory):
        return {"RESTIC_REPOSITORY": self.repository, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": directory + "/cache"}

    def begin(self):
        self.call("init")

    def keep(self, directory, number):
        self.call("backup", "--quiet", ".", cwd=directory)


class Borg(Peer):
    """With its own way to cut files into chunks of about 2 MiB."""
    name = program = "borg"
    chunker = "default"

    def settings(self, directory):
        return {"BORG_BASE_DIR": directory, "BORG_REPO": self.repository}

    def begin(self):
        self.call("init", "--encryption=none")

    def keep(self, directory, number):
        self.call("create", "--compression=zstd,1", "--sparse", "--chunker-params=" + self.chunker, f"::point{number}", ".", cwd=directory)


class BorgPages(Borg):
    """With chunks of a page: as small as it can be told to, and much for it to remember."""
    name, chunker = "borg by pages of 4 KiB", "fixed,4096"


ALL = (Restic, Borg, BorgPages)


def tree_bytes(directory):
    """Of all files below; one that goes meanwhile does not count."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                pass
    return total
