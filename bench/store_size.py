# SPDX-License-Identifier: LGPL-2.1-or-later
"""Size of the store.

Row: 7.
Measured: bytes that a store's files take, for the first point of a machine and for the one-second points after it, memory, disk and
device state: a Debian guest of 512 MiB that its clients keep busy (Redis, PostgreSQL, nginx). 10 points, not an hour's 3,600: what the peers
need for one bounds it. With --quick the small guest, under its own load.
Floor: what changed from point to point, compressed by zstd -1 alone (bench/points.cc): a page that was rewritten with what it held counts as
none. Second floor: all that the epochs carried, such pages too, taken to compress as well as those that changed.
Peer: restic and borg (as they are, and told to cut files into pages), each given every point as whole files of memory, disk and device state;
the size of their repositories. The first point is given to a new store of ours as files too.
Target: for the points after the first at most 60 % of the floors, and less than each peer.
"""
import os
import subprocess
import time

import peers
from clients import PostgresClient, RedisClient, WebClient
from frame import Target
from protected import Protected

POINTS, QUICK = 10, 1
FIELDS = ("pages", "zero", "disk", "known", "new", "zstd")


def run(bench):
    site, first, last = run_guest(bench)
    installed = [peer for peer in peers.ALL if peer.installed()]
    kept = [peer(bench.directory(peer.__name__)) for peer in (OursFromFiles, *installed)]
    figures, after_first = feed(bench, site, first["number"], last["number"], kept)
    after_first, alone = after_first[1:], after_first[0]
    changed = {field: sum(point[field] for point in figures[1:]) for field in FIELDS}
    grown = last["bytes"] - first["bytes"]
    count = len(figures) - 1
    title = f"{count} points of a second after the first"
    bench.row(title, "MiB", mib(grown), floor=mib(changed["zstd"]), target=Target(at_most=0.6, of="floor"))
    carried = last["carried"] - first["carried"]
    bench.row(f"{title}; floor: all that they carried", "MiB", mib(grown), floor=mib(carried * changed["zstd"] / (4096 * max(1, changed["pages"]))),
              target=Target(at_most=0.6, of="floor"))
    for peer, before in zip(kept[1:], after_first):
        bench.row(f"{title}; peer: {peer.name}", "MiB", mib(grown), peer=mib(peer.stored_bytes() - before), target=Target(at_most=1, of="peer"))
    bench.row("the first point", "MiB", mib(alone), floor=mib(figures[0]["zstd"]))
    for peer, before in zip(kept[1:], after_first):
        bench.row(f"the first point; peer: {peer.name}", "MiB", mib(alone), peer=mib(before))
    for peer in peers.ALL:
        if not peer.installed():
            bench.note(f"{peer.name}: not installed (scripts/install-packages bench).")
    bench.note("The first point: " + shares(figures[0]) + ". The points after it: " + shares(changed)
               + f"; {changed['pages'] / count:.0f} pages a point, {carried / count / 4096:.0f} carried.")
    bench.note("A page that the guest has freed is stored like any other unless it is zero: whether it is free cannot be told from outside yet.")
    bench.if_missed("Of what changed, what is new has to be kept, as zstd has it; what was somewhere before, or equals a disk block, is all that can be won; next: longer "
                    "frames for pages that change together, and free pages, told by the guest's balloon.")


class OursFromFiles(peers.Peer):
    """One point, in a store of its own: the one that a guest fills has all that its start wrote too."""
    name = "ours"
    program = os.path.join(os.environ.get("CKPT_BUILD", "build"), "restore-agent", "store-from-files")

    def settings(self, directory):
        return {}

    def begin(self):
        self.done = False

    def keep(self, directory, number):
        if not self.done:
            self.call(self.repository, "vm", directory)
        self.done = True


def mib(size):
    return [size / 2**20]


def shares(figures):
    def share(name):
        return f"{figures[name] / max(1, figures['pages']):.1%}"
    return (f"of {figures['pages']:,} changed pages {share('zero')} are zero now, {share('disk')} are of memory and equal a disk block, "
            f"{share('known')} were somewhere before: {share('new')} are new")


def run_guest(bench):
    """The site, and what at_rest() says of the first and the last point."""
    small = bench.quick
    with Protected(bench, guest=bench.options.guest if small else "debian", memory_mib=256 if small else 512, ports=(7, 80, 5432, 6379)) as machine:
        # What starts with a machine is over.
        time.sleep(0 if small else 10)
        first = at_rest(machine)
        begin, end = load(bench, machine, small)
        begin()
        machine.site.wait_checkpoints("vm", len(bench.rounds(POINTS, QUICK)) - 1, 600)
        end()
        machine.site.wait_checkpoints("vm", 1, 600)
        last = at_rest(machine)
        machine.guest.kill()
        machine.site.stop()
    return machine.site, first, last


def at_rest(machine):
    """The newest point, bytes of the store and what all epochs carried, at an instant when none was added."""
    while True:
        before = machine.site.checkpoints("vm")
        size = peers.tree_bytes(machine.site.store)
        points = machine.site.checkpoints("vm")
        if points[-1]["number"] == before[-1]["number"]:
            return {"number": points[-1]["number"], "bytes": size, "carried": sum(point["data_bytes"] for point in points)}


def load(bench, machine, small):
    if small or bench.options.load:
        numbers = tuple(bench.options.load.split()) or (32, 1000, 50)
        return lambda: machine.load(*numbers), lambda: machine.guest.cmd("stop")
    forwards = machine.guest.forwards
    clients = [RedisClient(forwards[6379]), PostgresClient(forwards[5432]), WebClient(forwards[80])]

    def end():
        for client in clients:
            client.stop()
    return lambda: [client.start() for client in clients], end


def feed(bench, site, first, last, kept):
    """Figures of each point, having given each to all peers; and what they had stored after the first."""
    images = bench.directory("images")
    figures, after_first = [], []
    with subprocess.Popen([bench.program("points"), site.store, "vm", str(first), str(last), images], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as points:
        for line in points.stdout:
            words = line.split()
            point = dict(zip(words[::2], map(int, words[1::2])))
            figures.append(point)
            for peer in kept:
                peer.keep(images, point["point"])
            after_first = after_first or [peer.stored_bytes() for peer in kept]
            points.stdin.write("\n")
            points.stdin.flush()
    if points.returncode != 0 or len(figures) < 2:
        raise RuntimeError(f"points: exit {points.returncode} after {len(figures)} points")
    return figures, after_first
