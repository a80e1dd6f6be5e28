#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes and calls for a fixed generated stream are those of bench/counts.txt: calls exactly, bytes within 2 % with another
zstd than the one they were taken with. `bench_counts.py --update` takes them anew: commit them with the change that explains them."""
# parallel
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = ROOT + "/bench/counts.txt"
HEAD = "# Written by tests/functional/bench_counts.py --update; what the names mean is in bench/counts.cc.\n"


def parse(text):
    return {name: int(value) for name, value in (line.split() for line in text.splitlines() if not line.startswith("#"))}


def differs(name, now, before, same_zstd):
    allowed = 0 if same_zstd or "bytes" not in name else 0.02 * before
    return abs(now - before) > allowed


def main():
    program = os.environ.get("CKPT_BUILD", ROOT + "/build") + "/bench/counts"
    if not os.path.exists(program):
        print(f"{program} is not built")
        return 1
    text = subprocess.check_output([program], text=True)
    if sys.argv[1:] == ["--update"]:
        with open(PATH, "w", encoding="utf-8") as file:
            file.write(HEAD + text)
        return 0
    with open(PATH, encoding="utf-8") as file:
        before = parse(file.read())
    now = parse(text)
    same_zstd = now.pop("zstd") == before.pop("zstd")
    bad = 0
    for name in sorted(set(now) | set(before)):
        if name not in now or name not in before or differs(name, now[name], before[name], same_zstd):
            print(f"{name}: {before.get(name)} became {now.get(name)}")
            bad += 1
    print(f"{len(now)} figures, {bad} of them differ" + (": see --update" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
