# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tasks during a restore.

Measured: work inside a Debian guest, begun with the first answer after a restore, lazily and aggressively, from a local store and from one behind a
link of 100 Mb/s and 2 ms: MiB/s of a generator of 80 % reads and 20 % writes over 96 MiB that nothing has cached, by size of a block and by locality
(spread: anywhere; local: 90 % of the requests in a tenth of the file), and the seconds of a GREP over a file system's tree.
Floor: the same machine, from the same instant, without having been lost.
Peer: none.
Target: none for a single task; every curve shall have the shape of the one before the loss.
"""
import contextlib
import time

from clients import PostgresClient
from far_link import FarLink
from protected import Protected
from restored import lose, restore, who_it_is

MEGABITS, ROUND_TRIP_MS = 100, 2
FILE, FILE_MIB = "/var/lib/postgresql/generator", 96
SECONDS = 1
BLOCKS_KIB, LOCALITIES = (4, 16, 64), {"spread": 1, "local": 0.1}
# Its arguments: file, bytes of a block, share of the file that takes 90 % of the requests, seconds.
GENERATOR = """
my ($path, $block, $hot, $seconds) = @ARGV;
open(my $file, "+<", $path) or die;
my $blocks = int((-s $file) / $block);
my ($data, $buffer, $done, $over) = ("x" x $block, "", 0, 0);
$SIG{ALRM} = sub { $over = 1 };
alarm $seconds;
while (!$over) {
  my $area = rand() < 0.9 ? int($blocks * $hot) || 1 : $blocks;
  sysseek($file, int(rand($area)) * $block, 0);
  if (rand() < 0.8) { sysread($file, $buffer, $block) } else { syswrite($file, $data, $block) }
  ++$done;
}
print $done * $block / $seconds / 1048576, "\\n";
"""
GREP = "grep -rc inline /usr/lib/postgresql /usr/share/postgresql | wc -l"


def run(bench):
    places = [("local store", False, mode) for mode in ("lazy", "aggressive")] + [("100 Mb/s + 2 ms", True, mode) for mode in ("lazy", "aggressive")]
    done = {}
    with Protected(bench, guest="debian", memory_mib=512, ports=(7, 5432)) as machine:
        shell(machine.guest, f"dd if=/dev/urandom of={FILE} bs=1M count={FILE_MIB} conv=fsync status=none; echo done")
        forget(machine.guest)
        machine.site.wait_checkpoints("vm", 2, 300)
        wait = who_it_is(machine.guest.tcp_cmd("nonce"))
        machine.protect(False)
        point = f"vm@{machine.site.checkpoints('vm')[-1]['number']}"
        floor = work(bench, machine.guest)
        lose(machine)
        for where, far, mode in places[1:2] if bench.quick else places:
            link = FarLink(bench, MEGABITS, ROUND_TRIP_MS) if far else None
            with link.used() if link else contextlib.nullcontext():
                restore(machine, point, bench.directory(f"disks-{time.monotonic_ns()}"), wait, options=["--mode", mode])
                done[f"{where}, {mode}"] = work(bench, machine.guest)
                lose(machine)
    for where, result in done.items():
        for name, (value, unit) in result.items():
            bench.row(f"{where}: {name}", unit, [value], floor=[floor[name][0]])
    bench.note("GCC and SFTP are not driven yet: the guest has neither.")
    for locality in LOCALITIES:
        bench.plot(f"80 % reads, 20 % writes, {locality}", "KiB a block", "MiB/s",
                   {where: curve(result, locality) for where, result in {"before the loss": floor, **done}.items()}, log_x=True)


def curve(result, locality):
    return [(kib, result[generator_name(kib, locality)][0]) for kib in BLOCKS_KIB if generator_name(kib, locality) in result]


def generator_name(kib, locality):
    return f"80/20, {kib} KiB, {locality}"


def work(bench, guest):
    """{task: (value, unit)}; the tree first, which each of them has read nothing of."""
    start = time.monotonic()
    shell(guest, GREP)
    result = {"GREP": (time.monotonic() - start, "s")}
    for kib in BLOCKS_KIB[:2] if bench.quick else BLOCKS_KIB:
        for locality, hot in LOCALITIES.items():
            forget(guest)
            text = shell(guest, f"perl -e '{GENERATOR}' {FILE} {kib << 10} {hot} {SECONDS}")
            result[generator_name(kib, locality)] = (float(text), "MiB/s")
    return result


def forget(guest):
    """Of the file nothing is cached inside the guest."""
    shell(guest, f"dd of={FILE} oflag=nocache conv=notrunc,fdatasync count=0 status=none; echo done")


def shell(guest, command):
    """A command in the guest, by the one service that runs commands for its clients."""
    client = PostgresClient(guest.forwards[5432])
    program = command.replace("'", "''").replace("\n", " ")
    answer = client.query(f"create temp table said (line text); copy said from program '{program}'; select line from said", timeout_s=300)
    return answer.strip()
