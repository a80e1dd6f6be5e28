#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""Everything at the same time, without QEMU: machines captured at the shortest interval while others look, verify, name, pin, remove and
thin what they wrote. What was named or pinned stays, what is kept reads back, nobody is held up for good."""
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, wait_until  # noqa: E402
from generator import Generator  # noqa: E402

NOT_FOUND, EXISTS, BUSY, CORRUPT = 1, 2, 7, 4
NAMES = ["m0", "m1", "m2"]


def may_fail(site, allowed, *arguments):
    """What others do meanwhile may take the ground away, but in known ways only."""
    try:
        return site.ctl(*arguments)
    except CtlError as error:
        assert error.code in allowed, error
        return None


class Crowd:
    """Threads that each repeat something until told to end."""

    def __init__(self):
        self.over, self.threads, self.errors, self.rounds = threading.Event(), [], [], {}

    def repeat(self, what, *arguments):
        def run():
            try:
                while not self.over.is_set():
                    what(*arguments)
                    self.rounds[what.__name__] = self.rounds.get(what.__name__, 0) + 1
            except Exception as error:  # shown by end()
                self.errors.append(f"{what.__name__}: {error}")
                self.over.set()

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors


def looking(site):
    site.ctl_text("watch", "--count", "2")
    site.ctl("list")
    for name in NAMES:
        may_fail(site, (NOT_FOUND,), "show", f"{name}@latest")


def verifying(site):
    answer = may_fail(site, (NOT_FOUND,), "verify", random.choice(NAMES))
    assert answer is None or answer["damage"] == [], answer


def removing(site):
    name = random.choice(NAMES)
    numbers = [c["number"] for c in site.checkpoints(name)[:-1] if not c["name"] and not c["pins"]]
    if numbers:
        may_fail(site, (NOT_FOUND, BUSY), "remove", f"{name}@{random.choice(numbers)}")


def changing(site):
    site.ctl("set", random.choice(NAMES), "interval=" + random.choice(["50ms", "80ms"]), "retention=" + random.choice(["all:2s", "all:1s,1s:5s"]))


class Keeper:
    """Names and pins checkpoints at random, while retention and removal run, and knows which must still be there."""

    def __init__(self):
        self.kept, self.count = {}, 0

    def keeping(self, site):
        name = random.choice(NAMES)
        self.count += 1
        if self.count % 2:
            taken = site.ctl("checkpoint", name, "--name", f"point{self.count}")["checkpoint"]
            self.kept[name, taken["number"]] = f"point{self.count}"
        else:
            numbers = [c["number"] for c in site.checkpoints(name) if not c["name"]]
            if not numbers:
                return
            pinned = may_fail(site, (NOT_FOUND,), "pin", f"{name}@{random.choice(numbers)}")
            if pinned:
                self.kept[name, pinned["checkpoint"]["number"]] = None

    def check(self, site):
        assert len(self.kept) > 3, self.kept
        for (name, number), given in self.kept.items():
            shown = site.ctl("show", f"{name}@{given or number}")["checkpoint"]
            assert shown["number"] == number and (given == shown["name"] if given else shown["pins"] == ["admin"]), (shown, given)
        for name in NAMES:
            site.ctl_text("verify", name)
        print(f"{len(self.kept)} named or pinned while {', '.join(NAMES)} were thinned: all there, all whole")


def at_the_same_time(site):
    for name in NAMES:
        site.ctl("protect", name, "--interval", "50ms", "--retention", "all:1s")
    generator = Generator(site, NAMES, "--epochs", "0", "--ram", "2", "--disk", "1", "--dirty", "40")
    for name in NAMES:
        site.wait_checkpoints(name, 2)
    crowd, keeper = Crowd(), Keeper()
    for what in (looking, verifying, removing, changing):
        crowd.repeat(what, site)
    crowd.repeat(keeper.keeping, site)
    try:
        before = {name: site.machine(name)["epochs_total"] for name in NAMES}
        wait_until(lambda: crowd.over.is_set() or len(keeper.kept) > 12 and all(site.machine(n)["epochs_total"] > before[n] + 40 for n in NAMES),
                   300, "40 epochs of each under all of that")
    finally:
        crowd.end()
    assert generator.process.poll() is None, "a machine was cut off"
    keeper.check(site)
    assert all(crowd.rounds.get(what, 0) > 0 for what in ("looking", "verifying", "removing", "changing", "keeping")), crowd.rounds
    # Unpinned and unnamed, they go.
    for (name, number), given in keeper.kept.items():
        site.ctl(*(("name", f"{name}@{number}") if given else ("unpin", f"{name}@{number}")))
    wait_until(lambda: not any((n, c["number"]) in keeper.kept for n in NAMES for c in site.checkpoints(n)), 60, "what nobody keeps to go")
    generator.kill()
    print("rounds:", crowd.rounds)


def stretches(site):
    """A machine that writes more than the store takes in its interval: the interval stretches, and status says by how much."""
    site.ctl("protect", "heavy", "--interval", "50ms", "--retention", "all")
    generator = Generator(site, ["heavy"], "--epochs", "0", "--ram", "96", "--disk", "0", "--dirty", "20000", "--compressible", "0")
    site.wait_checkpoints("heavy", 6, 300)
    machine = site.machine("heavy")
    assert machine["interval_ms"] == 50 and machine["effective_interval_ms"] > 50, machine
    generator.kill()
    site.wait_state("heavy", "waiting")
    machine = site.machine("heavy")
    newest, before = (c["wall_clock_ns"] for c in reversed(site.checkpoints("heavy")[-2:]))
    assert machine["effective_interval_ms"] == (newest - before) // 1_000_000, (machine, newest - before)
    # RPO is what would be lost now: everything since the newest checkpoint, though nothing is connected any more.
    overview = site.ctl("status", "heavy")
    machine = overview["machines"][0]
    assert machine["newest_wall_clock_ns"] == newest
    assert 0 <= machine["rpo_ms"] <= (overview["now_ns"] - newest) // 1_000_000 < machine["rpo_ms"] + 10_000, (machine, overview["now_ns"])
    print(f"asked for every 50 ms, made every {machine['effective_interval_ms']} ms, and says so")


with Site(interval="50ms") as shared:
    shared.start()
    try:
        for case in (at_the_same_time, stretches):
            case(shared)
        shared.stop()
    except BaseException:
        print(shared.log_text())
        raise
