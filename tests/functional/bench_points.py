#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench/points writes each point's files exactly, and counts what it changed: pages that are zero now, that equal a disk block, that were
there before, and that are new."""
# parallel
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from oracle import Tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CKPT_BUILD", ROOT + "/build")
PAGE = 4096


def page(number):
    return random.Random(number).randbytes(PAGE)


ZERO = bytes(PAGE)
# Names of files, pages of each: point after point.
POINTS = [
    # Six pages that are not zero: two of the disk, one of memory like one of those, two alike, the device state.
    {"disk+d": [page(1), page(2), ZERO, ZERO], "ram+r%1": [page(1), page(3), page(3), ZERO], "device_state+s": [page(4)]},
    # One is zero now, one of memory like the disk's, one of device state like memory before, two new; one is the same as before.
    {"disk+d": [page(1), page(2), page(5), ZERO], "ram+r%1": [ZERO, page(3), page(2), page(6)], "device_state+s": [page(3)]},
    # Other device state, and shorter.
    {"disk+d": [page(1), page(2), page(5), ZERO], "ram+r%1": [ZERO, page(3), page(2), page(6)], "device_state+s": [page(7)[:100]]},
]
COUNTS = [{"pages": 6, "zero": 0, "disk": 1, "known": 1, "new": 4}, {"pages": 5, "zero": 1, "disk": 1, "known": 1, "new": 2},
          {"pages": 1, "zero": 0, "disk": 0, "known": 0, "new": 1}]


def make_store(directory):
    for content in POINTS:
        folder = tempfile.mkdtemp(dir=directory)
        for name, pages in content.items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(b"".join(pages))
        subprocess.run([BUILD + "/restore-agent/store-from-files", directory + "/store", "m", folder], check=True, stdout=subprocess.DEVNULL)


def walk(directory):
    images = directory + "/images"
    os.mkdir(images)
    told = []
    with subprocess.Popen([BUILD + "/bench/points", directory + "/store", "m", "1", "3", images], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as points:
        for content, line in zip(POINTS, points.stdout):
            assert sorted(os.listdir(images)) == sorted(content), os.listdir(images)
            for name, pages in content.items():
                with open(f"{images}/{name}", "rb") as file:
                    assert file.read() == b"".join(pages), f"{name} differs: {line}"
            words = line.split()
            told.append(dict(zip(words[::2], map(int, words[1::2]))))
            points.stdin.write("\n")
            points.stdin.flush()
    assert points.returncode == 0
    return told


def whole(directory):
    make_store(directory)
    told = walk(directory)
    assert [point["point"] for point in told] == [1, 2, 3], told
    for point, counts in zip(told, COUNTS):
        assert {name: point[name] for name in counts} == counts, (point, counts)
    # Noise does not compress.
    sizes = [point["zstd"] for point in told]
    assert 4 * PAGE < sizes[0] < 7 * PAGE and 100 < sizes[2] < 200, sizes


def no_store(directory):
    done = subprocess.run([BUILD + "/bench/points", directory + "/none", "m", "1", "3", directory], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "points: " in done.stderr, done


tap = Tap()
with tempfile.TemporaryDirectory() as scratch:
    tap.case("points of a store as files", whole, scratch)
    tap.case("a store that is none", no_store, scratch)
tap.end()
