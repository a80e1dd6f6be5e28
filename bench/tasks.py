# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tasks during a restore.

Row: 12 (GCC, SFTP, GREP, generator of I/O).
Measured: work inside a Debian guest, begun with the first answer after a restore, lazily and aggressively, from a local store and from one behind a
link of 100 Mb/s and 2 ms: the seconds of a GREP over a file system's tree and, after it, MiB/s of a generator of 80 % reads and 20 % writes over 96 MiB
that nothing has cached, by size of a block and by locality (spread: anywhere; local: 90 % of the requests in a tenth of the file). After a restore of
their own each: the seconds of GCC, which builds and links a program of five files, and of an SFTP download of 16 MiB out of the guest, both with the SSH
login that begins them. Neither was used before, so that gcc, its headers and libraries, and the file, come from the restored disks.
Floor: the same machine, from the same instant, without having been lost.
Peer: none: nothing else restores over a link without having fetched all before; QEMU's restore from a local file is in "Time to the first useful answer".
Target: none for a single task; every curve shall have the shape of the one before the loss.
"""
import contextlib
import time

from far_link import FarLink
from protected import Protected
from restored import lose, restore, who_it_is
from tools import Tools, shell, wait_shell

GUESTS = ("tools",)
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
    tools = Tools(bench)
    # Each is begun with the first answer: what the one before has touched, or waited for, is no help.
    begun = [lambda guest: on_files(bench, guest), lambda guest: {"GCC": (tools.build(guest), "s")},
             lambda guest: {"SFTP": (tools.download(guest), "s")}]
    done = {}
    with Protected(bench, memory_mib=512, ports=(7, 22, 5432), **tools.machine) as machine:
        wait_shell(machine.guest)
        shell(machine.guest, f"dd if=/dev/urandom of={FILE} bs=1M count={FILE_MIB} conv=fsync status=none; echo done")
        forget(machine.guest)
        machine.site.wait_checkpoints("vm", 2, 300)
        wait = who_it_is(machine.guest.tcp_cmd("nonce"))
        machine.protect(False)
        point = f"vm@{machine.site.checkpoints('vm')[-1]['number']}"
        floor = together(task(machine.guest) for task in begun)
        lose(machine)
        for where, far, mode in places[1:2] if bench.quick else places:
            link = FarLink(bench, MEGABITS, ROUND_TRIP_MS) if far else None
            with link.used() if link else contextlib.nullcontext():
                done[f"{where}, {mode}"] = together(after_restore(bench, machine, point, wait, mode, task) for task in begun)
    for where, result in done.items():
        for name, (value, unit) in result.items():
            bench.row(f"{where}: {name}", unit, [value], floor=[floor[name][0]])
    for locality in LOCALITIES:
        bench.plot(f"80 % reads, 20 % writes, {locality}", "KiB a block", "MiB/s",
                   {where: curve(result, locality) for where, result in {"before the loss": floor, **done}.items()}, log_x=True)


def after_restore(bench, machine, point, wait, mode, task):
    restore(machine, point, bench.directory(f"disks-{time.monotonic_ns()}"), wait, options=["--mode", mode])
    result = task(machine.guest)
    lose(machine)
    return result


def together(results):
    return {name: value for result in results for name, value in result.items()}


def curve(result, locality):
    return [(kib, result[generator_name(kib, locality)][0]) for kib in BLOCKS_KIB if generator_name(kib, locality) in result]


def generator_name(kib, locality):
    return f"80/20, {kib} KiB, {locality}"


def on_files(bench, guest):
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
