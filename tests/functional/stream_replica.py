#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""With the machine stopped at the epoch, what the stream says it is equals RAM and disks byte for
byte: machines, memory backends, disk formats, controllers, writes, zeroes and discards."""
# limit: 900
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, Skip, needs_kvm, qemu_dir, run  # noqa: E402

MIB = 128


def loaded(rounds=3, **how):
    how.setdefault("memory_mib", MIB)
    how.setdefault("cpus", 2)
    with Case(**how) as case:
        case.guest.cmd("load 24 2000 60")
        for _ in range(rounds):
            case.epochs(2)
            figures = case.check_replica()
        answer = case.check_guest()
        assert case.peer.modes == ["full"], case.peer.modes
        return f"{answer}; {figures['number']} epochs, pause of the last {figures['pause_us']} us"


def machine_q35():
    """q35, two processors."""
    return loaded()


def machine_pc():
    """pc, one processor, VGA."""
    return loaded(machine="pc", cpus=1, extra=["-device", "VGA"])


def machine_eight():
    """q35, eight processors, NUMA with two memory backends."""
    return loaded(cpus=8, memory_mib=256, extra=[
        "-object", "memory-backend-ram,id=m0,size=128M", "-numa", "node,memdev=m0,cpus=0-3",
        "-object", "memory-backend-ram,id=m1,size=128M", "-numa", "node,memdev=m1,cpus=4-7"])


def memory_memfd():
    """Shared memfd memory."""
    return loaded(extra=["-object", f"memory-backend-memfd,id=m,size={MIB}M,share=on",
                         "-machine", "memory-backend=m"])


def memory_file():
    """Private file-backed memory."""
    path = f"/dev/shm/ckpt-ram-{os.getpid()}"
    try:
        return loaded(extra=["-object", f"memory-backend-file,id=m,size={MIB}M,mem-path={path},share=off",
                             "-machine", "memory-backend=m"])
    finally:
        os.unlink(path)


def memory_huge():
    """Huge pages."""
    with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as pages:
        before = pages.read()
    try:
        with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as pages:
            pages.write(str(int(before) + MIB // 2))
        with open("/proc/meminfo", encoding="ascii") as info:
            free = [int(line.split()[1]) for line in info if line.startswith("HugePages_Free")][0]
    except OSError as error:
        raise Skip(f"no huge pages: {error}") from None
    try:
        if free < MIB // 2:
            raise Skip(f"only {free} huge pages")
        return loaded(extra=["-object", f"memory-backend-memfd,id=m,size={MIB}M,hugetlb=on,hugetlbsize=2M",
                             "-machine", "memory-backend=m"])
    finally:
        with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as pages:
            pages.write(before)


def image(case_name, disk_format, size="64M"):
    path = f"/tmp/ckpt-{os.getpid()}-{case_name}.{disk_format}"
    subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", disk_format, path, size])
    temporary.append(path)
    return path


temporary = []


def disk_formats():
    """Several disks: qcow2 and raw, an overlay with data below it."""
    below = image("below", "qcow2")
    subprocess.check_call([qemu_dir() + "/qemu-io", "-f", "qcow2", "-c", "write -P 7 3M 2M", below],
                          stdout=subprocess.DEVNULL)
    over = image("over", "qcow2")
    subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                           below, over])
    raw = image("plain", "raw", "10M")
    return loaded(disks=[(over, "qcow2"), (raw, "raw"), (image("third", "qcow2"), "qcow2")])


def hundreds_of_epochs(case):
    """A request whose completion the guest is not told of keeps it waiting for ever."""
    case.guest.cmd("load 16 500 2000")
    case.peer.take()
    pauses, written = [], 0
    for _ in range(20):
        pauses += case.epochs(20, 0.005)
        before, end = written, time.monotonic() + 60
        while (written := int(case.guest.cmd("written").split()[-1])) <= before:
            assert time.monotonic() < end, f"no disk write since epoch {case.peer.durable - 20}"
            time.sleep(0.1)
    case.guest.cmd("stop")
    case.check_guest()
    case.check_replica()
    pauses.sort()
    return f"{len(pauses)} epochs, {written} writes, pause p50 {pauses[len(pauses) // 2]} us"


def iothread_blk():
    """virtio-blk in an iothread: hundreds of epochs, and I/O goes on."""
    with Case(memory_mib=MIB, cpus=2, disk_device="virtio-blk-pci,iothread=io0", extra=["-object", "iothread,id=io0"]) as case:
        return hundreds_of_epochs(case)


def iothread_scsi():
    """virtio-scsi in an iothread: the same."""
    def with_controller(_, given):
        at = given.index("-blockdev")
        return [*given[:at], "-object", "iothread,id=io0", "-device", "virtio-scsi-pci,iothread=io0", *given[at:]]

    with Case(memory_mib=MIB, cpus=2, disk_device="scsi-hd", append="ckpt.disk=/dev/sda",
              arguments=with_controller) as case:
        return hundreds_of_epochs(case)


def disk_requests():
    """Writes, zeroes and discards of every size, also while the disk is still being copied."""
    chance = random.Random(5)
    path = image("requests", "qcow2", "32M")
    with Case(memory_mib=MIB, disks=[(path, "qcow2")], peer_with={}) as case:
        for round_ in range(6):
            for _ in range(40):
                offset = chance.randrange(0, 30 << 20) & ~511
                length = chance.choice([512, 4096, 5120, 65536, 300 << 10, 1536 << 10])
                command = chance.choice(["write -P {} {} {}", "write -P {} {} {}", "write -z {1} {2}",
                                         "write -z -u {1} {2}", "discard {1} {2}"])
                command = command.format(chance.randrange(256), offset, length)
                answer = case.guest.qmp("human-monitor-command",
                                        **{"command-line": f'qemu-io -d vd0/virtio-backend "{command}"'})
                assert "rror" not in answer, (command, answer)
            if round_ % 2:
                case.epochs(1, 0)
                case.check_replica()
            elif round_ == 2:
                case.peer.drop()
        assert case.peer.modes[:2] == ["full", "continue"], case.peer.modes
        case.check_replica()


def discards_reach_the_image():
    """What the guest discards is unmapped as without capture, and zero in the next epoch; ignored where it was."""
    kept, thin = image("kept", "raw", "32M"), image("thin", "raw", "32M")
    extra = []
    for name, path, mode in (("kept", kept, "ignore"), ("thin", thin, "unmap")):
        extra += ["-blockdev", f"driver=raw,node-name=n{name},discard={mode},file.driver=file,file.filename={path},"
                               f"file.discard={mode}", "-device", f"virtio-blk-pci,drive=n{name},id={name}"]
    with Case(memory_mib=MIB, extra=extra) as case:
        case.images.update({"kept": kept, "thin": thin})
        for name in ("kept", "thin"):
            case.qemu_io(f"{name}/virtio-backend", "write -P 7 0 16M")
        case.check_replica()
        before = os.stat(thin).st_blocks
        for name in ("kept", "thin"):
            case.qemu_io(f"{name}/virtio-backend", "discard 1M 15M")
        assert case.info()["remaining-bytes"] == 0, "discards left something to be copied"
        figures = case.check_replica()
        assert os.stat(thin).st_blocks <= before - (14 << 11), (before, os.stat(thin).st_blocks)
        assert figures["disk_bytes"] == 15 << 20 and figures["bytes"] < 4 << 20, figures


def clocks():
    """Pauses cost the guest no time: its clock keeps up with the host's however many there are."""
    with Case(memory_mib=MIB) as case:
        case.guest.cmd("load 24 1000 0")
        case.epochs(2, 0)
        ends = [case.peer.take() for _ in range(60)]
        behind = [end["wall_ns"] - end["vm_ns"] for end in ends]
        lost_us, paused_us = (behind[-1] - behind[0]) // 1000, sum(end["pause_us"] for end in ends[:-1])
        assert lost_us < paused_us / 4, (lost_us, paused_us)
        return f"{lost_us} us lost in pauses of {paused_us} us"


def pflash_and_more():
    """pflash, a second serial bus of devices, a disk on AHCI and one on virtio-scsi."""
    firmware = image("firmware", "raw", "256K")
    with open(firmware, "r+b") as file:
        file.write(os.urandom(256 << 10))
    extra = ["-blockdev", f"driver=raw,node-name=flash1,file.driver=file,file.filename={firmware}",
             "-device", "ich9-ahci,id=ahci9", "-device", "virtio-scsi-pci,id=scsi0",
             "-device", "virtio-balloon-pci", "-device", "virtio-rng-pci", "-device", "qemu-xhci",
             "-device", "usb-tablet"]
    names = {}
    for name, driver in (("sata0", "ide-hd,bus=ahci9.0"), ("lun0", "scsi-hd,bus=scsi0.0")):
        path = image(name, "raw", "8M")
        names[name] = path
        extra += ["-blockdev", f"driver=raw,node-name=n{name},file.driver=file,file.filename={path}",
                  "-device", f"{driver},drive=n{name},id={name}"]
    with Case(memory_mib=MIB, cpus=2, extra=extra) as case:
        case.images.update(names)
        case.guest.cmd("load 24 1000 30")
        for name in names:
            case.guest.qmp("human-monitor-command",
                           **{"command-line": f'qemu-io -d {name} "write -P 9 1M 3M"'})
        case.epochs(2)
        case.check_replica()
        assert sorted(case.info()["disks"]) == ["lun0", "sata0", "vd0"], case.info()
        case.check_guest()


def under_kvm():
    """KVM: the dirty log of a real processor, with the bare guest."""
    needs_kvm()
    pauses = []
    with Case(guest="bare", accel="kvm", memory_mib=MIB, append="rate=2000 mib=48") as case:
        for _ in range(3):
            pauses += case.epochs(5, 0.1)
            figures = case.check_replica()
        case.check_guest()
        return f"pauses {sorted(pauses)} us, {figures['ram_pages']} pages"


def memory_untouched():
    """The first copy does not make untouched memory resident."""
    with Case(memory_mib=2048) as case:
        case.peer.take()
        with open(f"/proc/{case.guest.process.pid}/status", encoding="ascii") as status:
            kib = [int(line.split()[1]) for line in status if line.startswith("RssAnon")][0]
        assert kib < 700 << 10, kib
        return f"{kib >> 10} MiB resident of 2048"


if __name__ == "__main__":
    try:
        sys.exit(run([machine_q35, machine_pc, machine_eight, memory_memfd, memory_file, memory_huge,
                      memory_untouched, disk_formats, disk_requests, discards_reach_the_image, clocks, pflash_and_more, iothread_blk, iothread_scsi,
                      under_kvm]))
    finally:
        for name in temporary:
            os.unlink(name)
