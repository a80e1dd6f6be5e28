#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store's file system is not mounted, or another one is: ckptd does not start, says what to do, and leaves the directory as it is.
Mounted again, all is there. Runs in a mount namespace of its own."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, Site  # noqa: E402
from generator import Generator  # noqa: E402
from own_mounts import in_own_namespace  # noqa: E402

NOT_FOUND, REFUSED = 1, 11


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def refused(site, code, *words):
    done = subprocess.run([BUILD + "/ckptd/ckptd", "--store", site.store, "--run-dir", site.run_dir, "--state-dir", site.directory + "/state"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (done.returncode, done.stderr)
    for word in ("Mount it", "--new-store", site.store, *words):
        assert word in done.stderr, (word, done.stderr)
    print("refused:", done.stderr.strip())


def capture(site, count):
    code, text = Generator(site, ["vm"], "--epochs", count, "--ram", "2", "--disk", "0").end()
    assert code == 0, text
    return [c["number"] for c in site.checkpoints("vm")]


in_own_namespace()
with Site(interval="50ms") as shared:
    volume, shared.store = shared.directory + "/volume", shared.directory + "/mounted"
    os.mkdir(volume)
    os.mkdir(shared.store)
    mount("-t", "tmpfs", "tmpfs", volume)
    mount("--bind", volume, shared.store)

    # The first start ever is a plain one, and so is any with the store in its place.
    shared.start()
    shared.ctl("protect", "vm")
    kept = capture(shared, "3")
    shared.stop()
    subprocess.run(["umount", shared.store], check=True)

    refused(shared, NOT_FOUND, "is not there")
    assert os.listdir(shared.store) == [], "something was made where the store belongs"
    os.rmdir(shared.store)
    refused(shared, NOT_FOUND, "is not there")
    assert not os.path.exists(shared.store)

    # Another file system in its place: empty, then with a store of its own.
    os.mkdir(shared.store)
    mount("-t", "tmpfs", "tmpfs", shared.store)
    refused(shared, NOT_FOUND, "is not there")
    assert os.listdir(shared.store) == []
    shared.start(["--new-store"])
    assert not shared.ctl("status")["machines"]
    shared.stop()
    shared.start()
    shared.stop()
    subprocess.run(["umount", shared.store], check=True)
    mount("--bind", volume, shared.store)
    refused(shared, REFUSED, "where")

    shared.start(["--new-store"])
    assert [c["number"] for c in shared.checkpoints("vm")] == kept
    assert len(capture(shared, "2")) > len(kept)
    assert shared.ctl("verify")["damage"] == []
    shared.stop()
    subprocess.run(["umount", shared.store, volume], check=True)
