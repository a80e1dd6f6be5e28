#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines, memory, devices and disks: each is captured exactly, or refused by name and reason. The
bare guest dirties memory, and qemu-io writes to the disks, so that no guest needs a driver."""
# limit: 900
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, Skip, needs_kvm, qemu_dir, run  # noqa: E402
from guest import Guest  # noqa: E402

LOAD = "rate=3000 mib=24"
# microvm has one serial port of its own; the line protocol is on the second.
MICROVM = ("-device", "isa-serial,chardev=serial1,index=1")
SLOTS = ("-m", "128,slots=2,maxmem=1G")
directory = tempfile.mkdtemp(prefix="ckpt-configs-")


def image(name, disk_format="raw", size="4M"):
    path = f"{directory}/{name}"
    subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", disk_format, path, size])
    return path


def in_file(name, size):
    return ["-object", f"memory-backend-file,id=shared,size={size},mem-path={directory}/{name},share=on"]


def devices(*names):
    return [argument for name in names for argument in ("-device", name)]


def captured(name, title, *extra, expected=(), **how):
    """A case: epochs of the bare guest under load, and the replica is equal."""
    def case():
        how.setdefault("memory_mib", 128)
        how.setdefault("append", LOAD)
        with Case(guest="bare", extra=list(extra), **how) as machine:
            machine.epochs(2, 0.1)
            machine.check_replica()
            machine.epochs(2, 0.1)
            machine.check_replica()
            assert machine.peer.modes == ["full"], machine.peer.modes
            names = {name for kind, name in machine.peer.objects if kind == "ram"}
            assert names.issuperset(expected), (expected, names)
            return machine.check_guest()

    case.__name__, case.__doc__ = name, title
    return case


def under_kvm(case):
    """The same, or a skip where KVM does not run the bare guest."""
    def guarded():
        needs_kvm()
        return case()

    guarded.__name__, guarded.__doc__ = case.__name__, case.__doc__
    return guarded


def microvm():
    """microvm under TCG, with a disk on virtio-mmio."""
    path = image("mmio")
    extra = [*MICROVM, "-blockdev", f"driver=raw,node-name=mmio,file.driver=file,file.filename={path}",
             "-device", "virtio-blk-device,drive=mmio,id=mmio"]
    with Case(guest="bare", machine="microvm", memory_mib=128, append=LOAD, extra=extra) as case:
        case.images["mmio"] = path
        for number in range(3):
            case.qemu_io("mmio", f"write -P {number + 1} {number * 9000 // 512 * 512} 70000")
            case.epochs(1, 0.1)
            case.check_replica()
        return case.check_guest()


# --- disks --------------------------------------------------------------------

CONTROLLERS = ["-object", "iothread,id=io0", "-object", "iothread,id=io1", "-object", "throttle-group,id=tg0,x-iops-total=500",
               "-device", "virtio-scsi-pci,id=scsi0,iothread=io0", "-device", "lsi53c895a,id=lsi0", "-device", "pvscsi,id=pv0",
               "-device", "qemu-xhci,id=xhci0", "-device", "isa-fdc,id=fdc0"]
# name, format, device; the size is not one of whole clusters everywhere
DISKS = [("virtio", "qcow2", '"driver":"virtio-blk-pci","iothread":"io0"', "4M"),
         ("mapped", "raw", '"driver":"virtio-blk-pci","num-queues":4,"iothread-vq-mapping":[{"iothread":"io0"},{"iothread":"io1"}]', "5M"),
         ("lun", "raw", '"driver":"scsi-hd","bus":"scsi0.0"', "3000k"),
         ("lsi", "qcow2", '"driver":"scsi-hd","bus":"lsi0.0"', "4M"),
         ("pvscsi", "qed", '"driver":"scsi-hd","bus":"pv0.0"', "4M"),
         ("sata", "raw", '"driver":"ide-hd","bus":"ide.0"', "4M"),
         ("throttled", "throttle", '"driver":"virtio-blk-pci"', "4M"),
         ("usb", "qcow2", '"driver":"usb-storage","bus":"xhci0.0"', "4M"),
         ("small", "raw", '"driver":"virtio-blk-pci"', "300k"),
         ("floppy", "raw", '"driver":"floppy","bus":"fdc0.0"', "1440k")]
# What QEMU calls a disk whose device is a part of another.
PATHS = {"usb": "/machine/peripheral/usb/usb.0/legacy[0]"}
VIRTIO = ("virtio", "mapped", "throttled", "small")


def disk_arguments():
    arguments = list(CONTROLLERS)
    for name, disk_format, device, size in DISKS:
        below = disk_format if disk_format != "throttle" else "raw"
        path = image(name, below, size)
        node = f"driver={disk_format},node-name=node-{name},file.driver=file,file.filename={path}"
        arguments += ["-blockdev", node + (",throttle-group=tg0" if disk_format == "throttle" else ""),
                      "-device", f'{{{device},"drive":"node-{name}","id":"{name}"}}']
    cdrom = image("cdrom", "raw", "1M")
    return arguments + ["-blockdev", f"driver=raw,read-only=on,node-name=node-cd,file.driver=file,file.filename={cdrom}",
                        "-device", "ide-cd,bus=ide.1,drive=node-cd,id=cdrom"]


def every_disk():
    """Every controller and format, throttled, in IOThreads, one with its queues in two."""
    # Not waited for: the firmware looks at each of them.
    with Case(guest="bare", ready=False, memory_mib=128, extra=disk_arguments()) as case:
        for round_ in range(2):
            for number, (name, _, _, _) in enumerate(DISKS):
                path = name + "/virtio-backend" if name in VIRTIO else PATHS.get(name, name)
                case.qemu_io(path, f"write -P {number + 7 * round_ + 1} {4096 * number + 512} 70000")
                case.qemu_io(path, f"write -z {200 << 10} 64k")
            case.epochs(1, 0.1)
        assert sorted(case.info()["disks"]) == sorted(PATHS.get(disk[0], disk[0]) for disk in DISKS), case.info()["disks"]
        case.guest.qmp("stop")
        for name, disk_format, _, _ in DISKS:
            raw = f"{directory}/{name}.copy"
            subprocess.check_call([qemu_dir() + "/qemu-img", "convert", "-U", "-f", disk_format.replace("throttle", "raw"), "-O",
                                   "raw", f"{directory}/{name}", raw])
            case.images[PATHS.get(name, name)] = raw
        case.check_replica()


# --- firmware -----------------------------------------------------------------

OVMF = "/usr/share/OVMF/OVMF_"


def uefi():
    """OVMF: what the firmware writes to its flash, which is a disk and memory at once, is captured."""
    variables = directory + "/variables"
    shutil.copy(OVMF + "VARS_4M.fd", variables)
    with open(variables, "rb") as file:
        before = file.read()
    extra = ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}CODE_4M.fd", "-drive", f"if=pflash,format=raw,file={variables}"]
    # Without a kernel the firmware goes on by itself, and writes its variables.
    with Case(guest="bare", ready=False, memory_mib=192, extra=extra) as case:
        case.images["pflash1"] = variables
        end = time.monotonic() + 400
        while True:
            case.epochs(1, 0.2)
            case.check_replica()
            with open(variables, "rb") as file:
                if file.read() != before:
                    break
            assert time.monotonic() < end, "the firmware wrote no variable"
        case.epochs(2)
        case.check_replica()


# --- KVM's dirty ring -----------------------------------------------------------

RING = "kvm,dirty-ring-size=4096"


def migration_is_exact(accel):
    """Whether QEMU's own live migration keeps the guest's memory: without it, no user of the dirty log can be exact."""
    how = {"memory_mib": 64, "machine": "microvm", "accel": accel, "append": "rate=200 mib=16"}
    state = directory + "/state"
    with Guest("bare", **how) as guest:
        guest.start(MICROVM)
        guest.wait_ready(60)
        guest.qmp("migrate-set-parameters", max_bandwidth=2 << 20)
        guest.qmp("migrate", uri="file:" + state)
        for _ in range(80):
            if guest.qmp("query-migrate")["status"] == "completed":
                break
            time.sleep(0.1)
        guest.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
        while guest.qmp("query-migrate")["status"] != "completed":
            time.sleep(0.1)
    with Guest("bare", **how) as guest:
        guest.start([*MICROVM, "-incoming", "file:" + state])
        guest.wait_ready(60)
        return guest.cmd("verify", timeout_s=60).startswith("ok")


def dirty_ring():
    """KVM's dirty ring instead of its dirty log."""
    exact = captured("", "", *MICROVM, machine="microvm", accel=RING, memory_mib=64, append="rate=50 mib=4")
    try:
        return exact()
    except (AssertionError, TimeoutError):
        if all(migration_is_exact(RING) for _ in range(3)):
            raise
        raise Skip("this host's dirty ring loses writes: QEMU's own live migration is not exact with it either") from None


# --- refused ------------------------------------------------------------------

def formatted(disk_format):
    path = image("refused." + disk_format, disk_format)
    return ["-blockdev", f"driver={disk_format},node-name=disk,file.driver=file,file.filename={path}", *devices("virtio-blk-pci,drive=disk")]


CXL = ["-M", "q35,cxl=on", "-m", "128,maxmem=4G,slots=4", "-object", "memory-backend-ram,id=cxlmem,size=256M",
       "-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1", "-device", "cxl-rp,port=0,bus=cxl.1,id=rp,chassis=0,slot=2",
       "-device", "cxl-type3,bus=rp,volatile-memdev=cxlmem,id=cxl0,sn=1", "-M", "cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G"]
# QEMU's arguments, and words of the reason
REFUSED = [
    (lambda: [*SLOTS, "-object", "memory-backend-ram,id=vm0,size=256M", "-device", "virtio-mem-pci,memdev=vm0,id=vmem0"],
     ("vmem0", "pc-dimm")),
    (lambda: [*SLOTS, *in_file("pmem", "64M"), "-device", "virtio-pmem-pci,memdev=shared"], ("shared", "nvdimm")),
    (lambda: CXL, ("cxlmem", "pc-dimm")),
    (lambda: [*in_file("master", "1M"), "-device", "ivshmem-plain,memdev=shared,master=on,id=iv0"], ("iv0", "ivshmem-plain")),
    (lambda: [*in_file("peer", "1M"), "-device", "ivshmem-plain,memdev=shared,id=iv0"], ("ivshmem",)),
    (lambda: ["-blockdev", "null-co,node-name=null0,size=1048576", "-device", "nvme,drive=null0,serial=1"], ("nvme",)),
    (lambda: ["-icount", f"shift=7,rr=record,rrfile={directory}/replay"], ("record/replay",)),
    (lambda: ["-device", "qemu-xhci", "-device", f"usb-mtp,rootdir={directory}"], ("usb-mtp",)),
    (lambda: ["-device", "amd-iommu"], ("amd-iommu",)),
] + [(lambda disk_format=disk_format: formatted(disk_format), (disk_format if disk_format != "parallels" else "Parallels", "disk"))
     for disk_format in ("vmdk", "vdi", "vpc", "vhdx", "parallels", "qcow")]


def refused():
    """What cannot be captured is refused by name and reason when QEMU starts."""
    for make, words in REFUSED:
        arguments = make()
        done = subprocess.run([qemu_dir() + "/qemu-system-x86_64", "-nodefaults", "-display", "none", "-M", "q35",
                               "-object", "checkpoint-stream,id=c,path=/x", *arguments],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "protected" in done.stderr + done.stdout or words[0] == "record/replay", (arguments, done)
        assert not [word for word in words if word not in done.stderr], (words, done.stderr)
    return f"{len(REFUSED)} configurations"


def vhost_user():
    """A device in another process is refused by name and reason."""
    socket = directory + "/vhost.sock"
    daemon = subprocess.Popen([qemu_dir() + "/storage-daemon/qemu-storage-daemon",
                               "--blockdev", f"file,node-name=n,filename={image('export')}",
                               "--export", f"vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path={socket}"])
    try:
        while not os.path.exists(socket):
            assert daemon.poll() is None
            time.sleep(0.02)
        done = subprocess.run([qemu_dir() + "/qemu-system-x86_64", "-nodefaults", "-display", "none", "-M", "q35", "-m", "64",
                               "-object", "memory-backend-memfd,id=m,size=64M,share=on", "-M", "memory-backend=m",
                               "-chardev", f"socket,id=u,path={socket}", "-device", "vhost-user-blk-pci,chardev=u",
                               "-object", "checkpoint-stream,id=c,path=/x"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "vhost-user-blk" in done.stderr and "another process" in done.stderr, done
    finally:
        daemon.terminate()
        daemon.wait()


def named_alike():
    """Two disks with one name: said, with the cure, and connections do not follow each other."""
    with Case(guest="bare", memory_mib=64, append=LOAD, extra=[
            "-drive", f"if=none,id=twin,format=raw,file={image('twin1')}", *devices("virtio-blk-pci,drive=twin,id=first"),
            "-blockdev", f"driver=raw,node-name=second,file.driver=file,file.filename={image('twin2')}",
            *devices("virtio-blk-pci,drive=second,id=twin")]) as case:
        info = case.wait_state("suspended")
        assert "two disks are called 'twin'" in info["reason"] and "another id" in info["reason"], info
        connections = len(case.peer.hellos)
        time.sleep(1)
        assert len(case.peer.hellos) == connections and case.info()["state"] == "suspended", case.peer.hellos


CASES = [
    microvm,
    under_kvm(captured("microvm_kvm", "microvm with eight processors under KVM", *MICROVM, machine="microvm", accel="kvm", cpus=8,
                       append="rate=1000 mib=24")),
    under_kvm(dirty_ring),
    captured("nodes", "two nodes, one shared and one private, both allocated ahead",
             "-object", "memory-backend-ram,id=m0,size=64M,prealloc=on", "-numa", "node,memdev=m0",
             "-object", "memory-backend-memfd,id=m1,size=64M,share=on,prealloc=on", "-numa", "node,memdev=m1", expected=("m0", "m1")),
    captured("shared_file", "memory in a shared file", *in_file("memory", "128M"), "-machine", "memory-backend=shared", expected=("shared",)),
    captured("nvdimm", "an NVDIMM in a file", *SLOTS, *in_file("nvdimm", "64M"), "-device", "nvdimm,memdev=shared",
             machine="q35,nvdimm=on", expected=("shared",)),
    captured("pc_displays", "pc, four processors, three displays", *devices("cirrus-vga", "vmware-svga", "bochs-display"), machine="pc", cpus=4),
    captured("many_devices", "q35, a desktop's and a server's devices", cpus=2,
             *devices("virtio-vga", "secondary-vga", "pvpanic", "vmgenid,guid=auto", "igb", "intel-iommu", "usb-ehci", "virtio-balloon-pci",
                      "virtio-keyboard-pci", "i6300esb", "virtio-serial-pci", "virtio-rng-pci")),
    every_disk, uefi, named_alike, refused, vhost_user]

if __name__ == "__main__":
    try:
        sys.exit(run(CASES))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
