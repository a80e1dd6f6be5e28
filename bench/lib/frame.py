# SPDX-License-Identifier: LGPL-2.1-or-later
"""The little interface of a measurement, bench/NAME.py:

    \"\"\"Title.

    Row: which of the rows of what is to be measured (issue 3), for those who look for one.
    Measured: what, and by which clock.
    Floor: what the same machine can do at best, measured in the same run.
    Peer: who else does it.
    Target: what is wanted.
    \"\"\"
    def run(bench):
        ours, floor = [], []
        for _ in bench.rounds(30, 5):          # so many, or with --quick so many: A and B in turn
            ours.append(...); floor.append(...)
        bench.row("57 MiB an epoch", "ms", ours, floor=floor, target=Target(at_most=1.3, of="floor"))
        bench.plot("title", "x", "y", {"ours": [(x, y), ...]})
        bench.if_missed("… takes most of it; next: …")

GUESTS names what tests/guests/build must have built that `make build` does not.

The head is printed in the report, so that it cannot disagree with the code beside it. `Skip` leaves it out, by reason.
"""
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time

import stats
from guest import guest_files

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(BENCH)
HEADS = ("Row", "Measured", "Floor", "Peer", "Target")


class Skip(Exception):
    """Cannot be measured here; the text says why."""


@dataclasses.dataclass
class Target:
    """Bound on a row's median (or `percent`): on the value, or on its ratio to the floor or the peer."""
    at_most: float = None
    at_least: float = None
    of: str = ""  # "floor", "peer" or "": the value
    percent: int = 50

    def text(self, unit):
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        what = f"{bound:g} × {self.of}" if self.of else f"{bound:g} {unit}"
        return ("" if self.percent == 50 else f"p{self.percent} ") + f"{sign} {what}"

    def met(self, row):
        """None where it cannot be told."""
        value = row.ratio(self.of, self.percent) if self.of else stats.at(row.ours, self.percent)
        if value is None:
            return None
        return value <= self.at_most if self.at_most is not None else value >= self.at_least


@dataclasses.dataclass
class Row:
    """Samples of one thing, and of the floor and the peer taken in turn with them."""
    name: str
    unit: str
    ours: list
    floor: list = None
    peer: list = None
    targets: list = dataclasses.field(default_factory=list)

    def ratio(self, of, percent=50):
        other = stats.at(self.floor if of == "floor" else self.peer, percent)
        ours = stats.at(self.ours, percent)
        return ours / other if ours is not None and other else None


class Bench:
    """What a measurement gets: options, a scratch directory, and where its results go."""

    def __init__(self, name, options):
        self.name, self.options, self.quick = name, options, options.quick
        self.build = os.environ.get("CKPT_BUILD", ROOT + "/build")
        self.rows, self.notes, self.reasons, self.plots = [], [], [], []
        self.skipped = ""
        self.seconds = 0.0
        self.scratch = None
        self.module = load(name)
        self.title, self.heads = head_of(self.module)

    def rounds(self, count, quick):
        return range(quick if self.quick else count)

    def row(self, name, unit, ours, floor=None, peer=None, target=None):
        """`target`: a Target, several, or none."""
        targets = [target] if isinstance(target, Target) else list(target or [])
        self.rows.append(Row(name, unit, list(ours), floor and list(floor), peer and list(peer), targets))
        return self.rows[-1]

    def note(self, text):
        self.notes.append(text)

    def if_missed(self, text):
        """Why a target is out of reach, and the next idea: said only where one was missed."""
        self.reasons.append(text)

    def verdicts(self):
        """Of each target: met, missed, or None where it cannot be told."""
        return [target.met(row) for row in self.rows for target in row.targets]

    def plot(self, title, x, y, series, **how):
        """`series`: {name: [(x, y), …]}; `how` as in plot.svg()."""
        self.plots.append({"title": title, "x": x, "y": y, "series": series, **how})

    def distribution(self, title, x, series):
        """Share of the samples that took no longer, from {name: samples}; x is logarithmic."""
        lines = {}
        for name, values in series.items():
            ordered = stats.thinned([value for value in values if value > 0])
            lines[name] = [(value, 100 * (i + 1) / len(ordered)) for i, value in enumerate(ordered)]
        self.plot(title, x, "% of samples", lines, log_x=True)

    def program(self, name):
        path = os.path.join(self.build, "bench", name)
        if not os.path.exists(path):
            raise Skip(f"{path} is not built")
        return path

    def call(self, name, *arguments, timeout_s=600):
        """Output of a program of bench/."""
        done = subprocess.run([self.program(name), *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def samples(self, name, *arguments, timeout_s=600):
        """The numbers that a program prints, one a line."""
        return [float(line) for line in self.call(name, *arguments, timeout_s=timeout_s).split()]

    def directory(self, name):
        path = os.path.join(self.scratch, name)
        os.makedirs(path)
        return path

    def measure(self):
        # Built once, which is no part of what is measured.
        for guest in getattr(self.module, "GUESTS", ()):
            guest_files(guest)
        started = time.monotonic()
        self.scratch = tempfile.mkdtemp(prefix=f"ckpt-bench-{self.name}-")
        try:
            self.module.run(self)
        except Skip as why:
            self.skipped = str(why)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.seconds = time.monotonic() - started


def names():
    """Every measurement, in the order that the report has."""
    order = ["pause", "write_stall", "fault_in", "prefetch", "working_set", "ingest", "store_size", "store_scale", "interval", "slowdown", "cpu", "ttr", "service_level", "tasks"]
    found = [name[:-3] for name in os.listdir(BENCH) if name.endswith(".py")]
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def load(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", f"{BENCH}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def head_of(module):
    """Title and the heads of a measurement's docstring; a missing one is an error."""
    text = module.__doc__ or ""
    title = text.strip().splitlines()[0].rstrip(".") if text.strip() else ""
    heads = {}
    for name in HEADS:
        match = re.search(rf"^{name}: (.*?)(?=\n\w+: |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        if not title or not match:
            raise ValueError(f"{module.__file__}: its head does not say '{name}:'")
        heads[name] = " ".join(match.group(1).split())
    return title, heads
