#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""Every command of ckptctl says the same of a machine that is not there, of a name that none can have, of a checkpoint that is not
there, of a point that is none, and of a ckptd that does not answer: what the manual page says."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, ROOT, Site  # noqa: E402
from generator import Generator  # noqa: E402

NOT_FOUND, INVALID, UNAVAILABLE = 1, 3, 10
QEMU = "printf '#!/bin/sh\\necho QEMU emulator version 10 checkpoint-stream\\n' > {0}; chmod +x {0}"

# How each command is given its machine, or its checkpoint.
ON_A_MACHINE = {
    "status": "{}", "watch": "{} --count 1", "list": "{}", "verify": "{}", "restores": "{}", "progress": "{}", "checkpoint": "{}",
    "forget": "{}", "unprotect": "{}", "set": "{} interval=1s", "restore": "{}", "finish": "{}", "image": "{}", "clone": "{} other",
    "show": "{}@latest", "name": "{}@latest fine", "pin": "{}@latest", "unpin": "{}@latest", "remove": "{}@latest",
}
MAKES_A_MACHINE = {"protect": "{}", "run": "{} -- QEMU -m 1"}
ON_A_CHECKPOINT = {
    "show": "vm@{}", "verify": "vm@{}", "name": "vm@{} fine", "pin": "vm@{}", "unpin": "vm@{}", "remove": "vm@{}",
    "restore": "vm@{} --as other", "image": "vm@{}", "clone": "vm@{} other",
}


def status(site, command, words, run_dir=None):
    arguments = [site.qemu if word == "QEMU" else word for word in words.split()]
    done = subprocess.run([BUILD + "/ckptd/ckptctl", "--run-dir", run_dir or site.run_dir, command, *arguments], capture_output=True, text=True,
                          timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 or done.stderr.startswith("ckptctl: ") and len(done.stderr) > 20, (command, done.stderr)
    return done.returncode, done.stderr.strip()


def all_say(site, expected, title, commands, value, run_dir=None):
    wrong = []
    for command, words in commands.items():
        code, text = status(site, command, words.format(value), run_dir)
        if code != expected:
            wrong.append(f"{command}: {code} instead of {expected}: {text}")
    assert not wrong, title + ":\n" + "\n".join(wrong)
    print(f"{len(commands)} commands say {expected} of {title}")


def page_says(number, words):
    with open(ROOT + "/doc/man/ckptctl.1", encoding="utf-8") as file:
        table = file.read().split("The same for every command")[1].split(".El")[0]
    row = re.search(rf"^\.It {number}\n(.*?)(?=^\.It|\Z)", table, re.M | re.S).group(1)
    assert words in row, (number, row)


with Site(interval="50ms") as shared:
    shared.qemu = shared.directory + "/qemu"
    subprocess.run(["sh", "-c", QEMU.format(shared.qemu)], check=True)
    everything = ON_A_MACHINE | MAKES_A_MACHINE
    listed = subprocess.run([BUILD + "/ckptd/ckptctl", "--help"], capture_output=True, text=True, check=True).stdout.split("Subcommands:")[1]
    assert set(re.findall(r"^  ([a-z]+) {2,}\S", listed, re.M)) == set(everything), "a command that is not tested here"

    page_says(UNAVAILABLE, "no ckptd")
    all_say(shared, UNAVAILABLE, "a ckptd that is away", everything, "vm", shared.directory + "/nobody")
    shared.start()
    shared.ctl("protect", "vm")
    code_of_all, output = Generator(shared, ["vm"], "--epochs", "2", "--ram", "1", "--disk", "0").end()
    assert code_of_all == 0, output
    page_says(NOT_FOUND, "not known")
    all_say(shared, NOT_FOUND, "an unknown machine", ON_A_MACHINE, "nonesuch")
    page_says(INVALID, "no machine can have")
    for name in ("bad/name", ".hidden", "a" * 65):
        all_say(shared, INVALID, f"the name {name[:10]}", everything, name)
    for point in ("999999", "no-such-name", "2001-01-01T00:00:00", "1000000001"):
        all_say(shared, NOT_FOUND, f"the checkpoint {point}", ON_A_CHECKPOINT, point)
    all_say(shared, INVALID, "the point -30x", ON_A_CHECKPOINT, "-30x")
    all_say(shared, INVALID, "no argument", {command: "" for command in everything if command not in
                                             ("status", "watch", "list", "verify", "restores", "progress")}, "")
    # None yet is no error.
    shared.ctl("protect", "empty")
    for verb in ("list", "verify", "restores", "status"):
        assert status(shared, verb, "empty")[0] == 0, verb
    assert status(shared, "show", "empty@latest")[0] == NOT_FOUND
    assert len(shared.checkpoints("vm")) >= 2, "a refused command changed something"
