#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A processor that itself waits for a disk, inside one instruction, while requests are held back for an epoch: neither it nor
the main loop waits for the other, and what the device did is in the epoch."""
# limit: 300
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE + "/lib", HERE + "/../qemu"]
from fake_agent import FakeAgent, read_ram  # noqa: E402
from stream_case import Case, Skip, needs_kvm, run  # noqa: E402

FIRMWARE = "/usr/share/seabios/bios-256k.bin"
FLASH_BYTES = 64 << 10


class Flash(Case):
    """The bare guest programs flash, each byte of which QEMU writes to a file, all the time."""

    def __init__(self, options=(), **how):
        if not os.path.exists(FIRMWARE):
            raise Skip(f"{FIRMWARE} is missing: package seabios")
        address = (1 << 32) - os.path.getsize(FIRMWARE) - FLASH_BYTES
        super().__init__(guest="bare", memory_mib=64, append=f"rate=1000 mib=16 flash={address}",
                         arguments=lambda guest, given: self._with_flash(guest, given, options), **how)

    def _with_flash(self, guest, given, options):
        self.images["pflash1"] = guest.path("flash")
        with open(self.images["pflash1"], "wb") as image:
            image.truncate(FLASH_BYTES)
        return [*given, "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.images['pflash1']}", *options]


def flash_is_written(accel, options=(), epochs=300):
    with Flash(options, accel=accel) as case:
        for _ in range(epochs):
            case.peer.take(20)
            time.sleep(0.01)
        case.check_guest()
        case.check_replica(ignore=["other"])
        case.epochs(2, 0.05)
        with open(case.images["pflash1"], "rb") as image:
            assert any(image.read()), "no flash was written"
        assert case.info()["state"] == "capturing", case.info()
        return f"{case.info()['retries']} retries"


def flash_under_tcg():
    """Flash that is programmed all the time (TCG)."""
    return flash_is_written("tcg,thread=multi")


def flash_under_kvm():
    """Flash that is programmed all the time (KVM)."""
    needs_kvm()
    return flash_is_written("kvm")


def flash_and_iothread():
    """The same with an iothread, which has to be asked before each pause."""
    return flash_is_written("tcg,thread=multi", [
        "-object", "iothread,id=io0", "-blockdev", "driver=null-co,node-name=other,size=1048576,read-zeroes=on",
        "-device", "virtio-blk-pci,drive=other,id=other,iothread=io0"], epochs=100)


def flash_while_restored():
    """The same while memory is being restored: a processor that stands still is not asked whether it waits for that."""
    accel = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg,thread=multi"
    with Flash(capture=False, accel=accel) as source:
        source.guest.qmp("stop")
        devices = source.guest.path("devices")
        source.guest.qmp("xen-save-devices-state", filename=devices, live=True)
        with FakeAgent(source.directory + "/agent.sock", read_ram(source.guest)) as agent, Flash(accel=accel, ready=False, extra=[
                "-object", f"checkpoint-restore,id=restore0,path={agent.path}",
                "-incoming", "defer", "-global", "migration.send-configuration=off"]) as case:
            case.guest.qmp("migrate-incoming", uri=f"exec:cat {devices}")
            case.epochs(1)  # with it all of memory is there
            before = case.info()["retries"]
            for _ in range(150):
                case.epochs(1, 0.01)
                # The processor has a request before it in many a pause; an epoch that could not be closed for that is a retry.
                assert case.info()["retries"] - before < 15, case.info()
            assert case.guest.qmp("query-checkpoint-restore")["state"] == "restoring"
            case.check_guest()
            case.check_replica()
            return f"{case.info()['retries']} retries"


def processor_never_lets_be():
    """Flash is programmed again and again while a disk keeps each epoch waiting: that is said, and capture goes on by itself."""
    slow = "driver=null-co,node-name=slow,size=1048576,read-zeroes=on,latency-ns=10000000000,read-only=on"
    with Flash(["-blockdev", slow, "-device", "virtio-blk-pci,drive=slow,id=slow"], accel="tcg,thread=multi") as case:
        case.epochs(1)
        case.guest.qmp("human-monitor-command", **{"command-line": 'qemu-io -d slow/virtio-backend "aio_read -q 0 4k"'})
        before = len(case.peer.ends)
        case.peer.ask()
        case.peer.wait(lambda: case.peer.state and case.peer.state[0] == 3 and "processor" in case.peer.state[2], 30)
        assert len(case.peer.ends) == before, case.peer.ends
        case.peer.wait(lambda: len(case.peer.ends) > before, 30)
        case.wait_state("capturing")
        case.check_guest()
        return f"{case.info()['retries']} retries"


def transfer_is_cancelled():
    """Transfers of an IDE disk are cancelled while another disk keeps the epoch waiting."""
    slow = "driver=null-co,node-name=slow,size=1048576,read-zeroes=on,latency-ns=80000000,read-only=on"
    with Case(guest="bare", machine="pc", memory_mib=64, append="rate=1000 mib=16 ide=1", extra=[
            "-blockdev", "driver=null-co,node-name=ide,size=1048576,read-zeroes=on", "-device", "ide-hd,drive=ide,id=ide0,bus=ide.0",
            "-blockdev", slow, "-device", "virtio-blk-pci,drive=slow,id=slow"]) as case:
        for _ in range(60):
            before = len(case.peer.ends)
            case.guest.qmp("human-monitor-command", **{"command-line": 'qemu-io -d slow/virtio-backend "aio_read -q 0 4k"'})
            case.peer.ask()
            case.peer.wait(lambda n=before: len(case.peer.ends) > n, 12)
        case.check_guest()
        return f"{case.info()['retries']} retries"


if __name__ == "__main__":
    sys.exit(run([flash_under_tcg, flash_under_kvm, flash_and_iothread, flash_while_restored, processor_never_lets_be,
                  transfer_is_cancelled]))
