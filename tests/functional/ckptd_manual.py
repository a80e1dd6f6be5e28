#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""Manual pages and bash completion name exactly the commands and options that --help names; error codes are documented."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, ROOT  # noqa: E402


def help_of(*words):
    done = subprocess.run([f"{BUILD}/ckptd/{words[0]}", *words[1:], "--help"], capture_output=True, text=True, check=True)
    return done.stdout


def options_in(text):
    return set(re.findall(r"^\s+(?:-\w,)?(--[a-z-]+)", text, re.M)) - {"--help", "--version"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def options_of_page(page):
    return {"--" + name for name in re.findall(r"\bFl -([a-z]{2}[a-z-]*)", page)} - {"--help", "--version"}


main_help = help_of("ckptctl")
commands = re.findall(r"^  ([a-z]+) {2,}\S", main_help.split("Subcommands:")[1], re.M)
assert len(commands) > 15, commands
page, completion = read("doc/man/ckptctl.1"), read("ckptd/completion/ckptctl")
offered = dict(re.findall(r"^ +([a-z |]+)\) options\+=\"([^\"]*)\"", completion, re.M))
documented = re.findall(r"^\.It Cm ([a-z]+)\b", page, re.M)
assert sorted(documented) == sorted(commands), set(documented) ^ set(commands)

everything = options_in(main_help)
for command in commands:
    own = options_in(help_of("ckptctl", command)) - options_in(main_help)
    everything |= own
    words = {word for commands_, text in offered.items() if command in commands_.split(" | ") for word in text.split()}
    assert own == {word for word in words if re.match("--[a-z]", word)}, (command, own, words)
assert sorted(re.search(r'commands="([^"]*)"', completion).group(1).split()) == sorted(commands)
daemon_words = re.search(r'-W "([^"]*)"', read("ckptd/completion/ckptd")).group(1).split()
assert set(daemon_words) - {"--help", "--version"} == options_in(help_of("ckptd")), daemon_words
assert options_of_page(page) == everything, options_of_page(page) ^ everything
assert options_of_page(read("doc/man/ckptd.8")) == options_in(help_of("ckptd")), options_in(help_of("ckptd"))

# The protection element: page, document and schema know the same attributes.
attributes = re.findall(r'<attribute name="(\w+)">', read("libvirt-hooks/ckpt-domain.rng"))
assert re.findall(r"^\.It Cm (\w+)$", read("doc/man/ckpt-libvirt.7"), re.M) == attributes, attributes
assert re.findall(r"^\| `(\w+)` \|", read("doc/libvirt.md").split("| attribute |")[1].split("\n\n")[0], re.M) == attributes

# Exit statuses: as many as result.h has codes.
codes = re.findall(r"^  (\w+) = (\d+),", read("libckpt/include/ckpt/result.h"), re.M)
statuses = re.findall(r"^\.It (\d+)$", page.split("The same for every command")[0], re.M)
assert [number for _, number in codes] == statuses, (codes, statuses)

# Every verb of the daemon is in the protocol's table.
verbs = set(re.findall(r'^ +\{"(\w+)", &Verbs::', read("ckptd/daemon/verbs.cc"), re.M))
rows = set()
for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+)", read("doc/control_protocol.md").split("| verb | fields")[1].split("\n\n")[0], re.M):
    rows |= set(re.findall(r"`(\w+)`", row))
assert verbs == rows, verbs ^ rows

subprocess.run(["bash", "-n", ROOT + "/ckptd/completion/ckptctl"], check=True)
script = f"source {ROOT}/ckptd/completion/ckptctl; COMP_WORDS=(ckptctl res); COMP_CWORD=1; _ckptctl; echo ${{COMPREPLY[@]}}"
answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
assert answer == ["restores", "restore"], answer
print(f"{len(commands)} commands, {len(everything)} options, {len(codes)} exit statuses, {len(verbs)} verbs")
