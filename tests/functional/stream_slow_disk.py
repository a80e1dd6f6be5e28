#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk that does not answer, or answers late, holds up capture and nothing else: guest and monitor
go on, the reason is said, and when the disk answers capture goes on with what is right."""
# limit: 600
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, guest_goes_on, qemu_dir, run  # noqa: E402

MIB = 128
LOAD = "load 24 1500 60"


class NbdCase(Case):
    """The guest's disk is behind qemu-nbd, which can be made to hang, or with `late_ms` behind nbdkit, whose every write
    takes so long. `device` is added to the disk's device."""

    def __init__(self, device="", options=(), late_ms=0, **how):
        self.export = self.listen = None
        self.late_ms = late_ms
        super().__init__(arguments=lambda guest, given: self._behind_nbd(guest, given, device, options), **how)

    def _behind_nbd(self, guest, arguments, device, options):
        path = guest.disks[0][0]
        self.listen = guest.path("nbd.sock")
        server = [qemu_dir() + "/qemu-nbd", "-f", "raw", "-t", "-k", self.listen, "--aio=threads", path]
        if self.late_ms:
            server = ["nbdkit", "-f", "-U", self.listen, "--filter=delay", "file", path, f"delay-write={self.late_ms}ms"]
        self.export = subprocess.Popen(server)
        while not os.path.exists(self.listen):
            assert self.export.poll() is None, "qemu-nbd ended"
            time.sleep(0.02)
        file_disk = f"driver=file,filename={path},node-name=file0"
        nbd_disk = f"driver=nbd,server.type=unix,server.path={self.listen},node-name=file0"
        return [*(a.replace(file_disk, nbd_disk).replace("virtio-blk-pci,drive=disk0", f"virtio-blk-pci,drive=disk0{device}")
                  for a in arguments), *options]

    def hang(self):
        """Stop the disk's server, and wait until the guest waits for it."""
        self.export.send_signal(signal.SIGSTOP)
        before = None
        while (now := self.guest.cmd("written").split()[-1]) != before:
            before = now
            time.sleep(0.3)

    def answer(self):
        self.export.send_signal(signal.SIGCONT)

    def close(self):
        try:
            return super().close()
        finally:
            if self.export:
                self.export.kill()
                self.export.wait()


def check_answering_again(case, before):
    case.answer()
    case.peer.wait(lambda: len(case.peer.ends) > before, 30)
    case.wait_state("capturing")
    case.epochs(3)
    case.check_replica()
    case.check_guest()
    assert "full" not in case.peer.modes[1:], case.peer.modes


def hangs(**how):
    with NbdCase(memory_mib=MIB, cpus=2, **how) as case:
        case.guest.cmd(LOAD)
        case.epochs(2)
        case.hang()
        before = len(case.peer.ends)
        case.peer.ask()
        info = case.wait_state("suspended")
        assert "'vd0' has not answered for" in info["reason"], info
        guest_goes_on(case, 4)
        case.peer.wait(lambda: case.peer.state and case.peer.state[0] == 3 and "vd0" in case.peer.state[2])
        assert len(case.peer.ends) == before, "an epoch was closed with a request in flight"
        check_answering_again(case, before)
        return f"{case.info()['retries']} retries"


def disk_hangs():
    """A disk that hangs: guest and monitor go on, the disk is named, and capture goes on with it."""
    return hangs()


def disk_hangs_iothread():
    """The same, served by an iothread."""
    return hangs(device=",iothread=io0", options=["-object", "iothread,id=io0"])


def disk_hangs_without_rings():
    """The same on a disk whose requests leave the guest's ring while they are held back."""
    return hangs(device=",ioeventfd=off")


def daemon_comes_back_meanwhile():
    """The daemon comes back while a disk hangs: it is told, and needs to ask once only."""
    with NbdCase(memory_mib=MIB, cpus=2) as case:
        case.guest.cmd(LOAD)
        case.epochs(2)
        case.hang()
        case.peer.ask()
        case.wait_state("suspended")
        case.peer.drop()
        case.peer.wait(lambda: len(case.peer.modes) == 2 and case.peer.state and case.peer.state[0] == 3)
        before = len(case.peer.ends)
        case.answer()
        case.wait_state("capturing", 30)
        case.peer.ask()
        check_answering_again(case, before)


def disk_is_late():
    """Every write takes longer than requests are held back at first: epochs are closed all the same."""
    with NbdCase(memory_mib=MIB, cpus=2, late_ms=300) as case:
        case.guest.cmd(LOAD)
        case.epochs(5)
        case.guest.cmd("stop")
        case.check_guest()
        case.check_replica()
        return f"{case.info()['retries']} retries, {case.guest.cmd('written')} written"


def monitor_uses_the_disks():
    """A command that goes the way of a guest's requests is held back for moments only."""
    ports = ["-device", "pcie-root-port,id=port1,chassis=1,slot=1"]
    with NbdCase(memory_mib=MIB, cpus=2, capture=False, extra=ports) as case:
        spare = case.directory + "/spare.raw"
        with open(spare, "wb") as image:
            image.truncate(8 << 20)
        case.guest.qmp("blockdev-add", driver="raw", node_name="spare", file={"driver": "file", "filename": spare})
        case.guest.qmp("device_add", driver="virtio-blk-pci", drive="spare", id="spare", bus="port1")
        case.images["spare"] = spare
        case.add_object()
        case.guest.cmd(LOAD)
        case.epochs(1)
        case.hang()
        before = len(case.peer.ends)
        case.peer.ask()
        case.wait_state("suspended")
        for number in range(8):
            answer = case.guest.qmp("human-monitor-command", timeout_s=5, **{
                "command-line": f'qemu-io -d spare/virtio-backend "write -P {number} {number}M 64k"'})
            assert "rror" not in answer, answer
            time.sleep(0.5)
        check_answering_again(case, before)


def object_goes_meanwhile():
    """The object is deleted between two attempts; its work ends without a trace, and begins anew."""
    with NbdCase(memory_mib=MIB, cpus=2) as case:
        case.guest.cmd(LOAD)
        case.epochs(1)
        case.hang()
        case.peer.ask()
        case.wait_state("suspended")
        case.answer()
        case.guest.qmp("object-del", id="ck0")
        assert case.guest.qmp("query-checkpoint-stream") == []
        case.check_guest()
        case.add_object()
        case.epochs(2)
        case.check_replica()
        case.check_guest()


def hangs_while_copied():
    """A disk hangs while it is copied, the guest at rest: it is named, and the copy goes on with it."""
    with NbdCase(memory_mib=MIB, cpus=2, capture=False) as case:
        case.guest.cmd("stop")
        case.export.send_signal(signal.SIGSTOP)
        case.add_object()
        info = case.wait_state("suspended")
        assert "'vd0' has not answered for" in info["reason"], info
        case.peer.wait(lambda: case.peer.state and case.peer.state[0] == 3 and "vd0" in case.peer.state[2])
        case.answer()
        case.wait_state("copying" if case.info()["remaining-bytes"] else "capturing")
        case.epochs(2)
        case.check_replica()


def broken_at(at):
    """Arguments for a disk, full of something, whose sector at `at` cannot be read before the guest has written."""
    def arguments(guest, given):
        path = guest.disks[0][0]
        with open(path, "r+b") as image:
            for piece in range(0, 64 << 20, 1 << 20):
                image.seek(piece)
                image.write(b"something" * 8)
        # A write mends it: in state 2 the next read puts a rule in place that has nothing to do with reads.
        rules = (f"inject-error.0.event=read_aio,inject-error.0.iotype=read,inject-error.0.sector={at >> 9},inject-error.0.state=1,"
                 "inject-error.0.once=off,inject-error.1.event=read_aio,inject-error.1.iotype=discard,inject-error.1.state=2,"
                 "inject-error.1.once=off,set-state.0.event=write_aio,set-state.0.state=1,set-state.0.new_state=2")
        return [a.replace(f"driver=file,filename={path},node-name=file0",
                          f"driver=blkdebug,node-name=file0,image.driver=file,image.filename={path},{rules}") for a in given]
    return arguments


def cannot_be_read():
    """A sector that cannot be read: it is named, everything else is copied, and capture begins when it can be read."""
    at = 5 << 20
    with Case(memory_mib=MIB, cpus=2, arguments=broken_at(at)) as case:
        info = case.wait_state("suspended")
        assert f"'vd0' cannot be read at {at}: Input/output error" in info["reason"], info
        case.peer.wait(lambda: case.peer.state and case.peer.state[0] == 3 and str(at) in case.peer.state[2])
        case.peer.ask()
        end = time.monotonic() + 30
        while (info := case.info())["remaining-bytes"] > 2 << 20:
            assert time.monotonic() < end, info
            time.sleep(0.05)
        guest_goes_on(case, 2)
        assert case.info()["state"] == "suspended" and not case.peer.ends, (case.info(), case.peer.ends)
        case.qemu_io("vd0/virtio-backend", "write 0 4k")
        case.peer.wait(lambda: case.peer.ends, 30)
        case.wait_state("capturing")
        case.check_replica()


def made_smaller():
    """A disk is made smaller by the part that cannot be read, while the daemon is away: nobody waits for that part any more."""
    at = 40 << 20

    def drive(guest, given):
        """The disk as a drive with a name of its own: then it is resized above the filter, which knows of it at once."""
        node = given.index("driver=raw,file=file0,node-name=disk0")
        given[node - 1:node + 1] = ["-drive", 'if=none,id=vd0,file=json:{"driver":"raw",,"file":"file0"}']
        return [a.replace("drive=disk0", "drive=vd0") for a in broken_at(at)(guest, given)]

    with Case(memory_mib=MIB, cpus=2, arguments=drive) as case:
        info = case.wait_state("suspended")
        assert f"'vd0' cannot be read at {at}" in info["reason"], info
        case.peer.refuse = "not now"
        case.peer.drop()
        case.wait_state("refused")
        case.guest.qmp("block_resize", device="vd0", size=32 << 20)
        case.peer.refuse = None
        case.peer.take()
        case.wait_state("capturing")
        case.check_replica()
        assert len(case.peer.objects["disk", "vd0"]) == 32 << 20


if __name__ == "__main__":
    sys.exit(run([disk_hangs, disk_hangs_iothread, disk_hangs_without_rings, daemon_comes_back_meanwhile,
                  disk_is_late, monitor_uses_the_disks, object_goes_meanwhile, hangs_while_copied, cannot_be_read, made_smaller]))
