#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One machine under capture, and all that an admin may do to it beside: block jobs, hotplug, each kind of migration and
dump. Each works or is refused with a reason; capture is suspended at most meanwhile, and exact again after each."""
# limit: 600
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, qemu_dir, run  # noqa: E402

SIZE = 8 << 20
directory = tempfile.mkdtemp(prefix="ckpt-operations-")


def image(name, disk_format="qcow2"):
    path = f"{directory}/{name}"
    subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", disk_format, path, str(SIZE)])
    return path


class Machine(Case):
    """The bare guest with a qcow2 disk that the host writes to, and places to plug into."""

    def __init__(self):
        self.disk = image("first")
        super().__init__(guest="bare", memory_mib=64, cpus=1, append="rate=2000 mib=16", extra=[
            "-m", "64,slots=4,maxmem=2G", "-smp", "1,maxcpus=4", "-device", "virtio-scsi-pci,id=scsi0", "-device", "qemu-xhci,id=xhci0",
            "-device", "pcie-root-port,id=port1,chassis=1,slot=1",
            "-blockdev", f"driver=file,node-name=first-file,filename={self.disk}",
            "-blockdev", "driver=qcow2,node-name=first,file=first-file",
            "-device", "scsi-hd,bus=scsi0.0,drive=first,id=first"])
        self.written = 0

    def write(self, disk="first"):
        """Something new at other places each time."""
        self.written += 1
        for piece in range(6):
            self.qemu_io(disk, f"write -P {self.written % 250 + 1} {(self.written * 37 + piece * 250) % 2000 * 4096} 9k")

    def exact(self, **others):
        """Disk `first` and those of `others` (id: (path, format)), and memory, are those of the epoch."""
        self.write()
        self.epochs(1, 0.05)
        self.write()
        self.guest.qmp("stop")
        for name, (path, disk_format) in {"first": (self.disk, "qcow2"), **others}.items():
            self.images[name] = f"{directory}/{name}.copy"
            subprocess.check_call([qemu_dir() + "/qemu-img", "convert", "-U", "-f", disk_format, "-O", "raw", path, self.images[name]])
        self.check_replica()

    def job(self, command, **arguments):
        """A block job to its end, epochs meanwhile."""
        self.guest.qmp(command, job_id="job", **arguments)
        self.write()
        self.epochs(1, 0.02)
        end = time.monotonic() + 30
        while jobs := self.guest.qmp("query-block-jobs"):
            if jobs[0]["status"] == "ready":
                self.guest.qmp("block-job-complete", device="job")
            assert time.monotonic() < end, jobs
            time.sleep(0.02)
        failed = [event for event in self.guest.qmp_connection.events if "error" in event.get("data", {})]
        assert not failed, failed


# --- block jobs ----------------------------------------------------------------

def backup(machine):
    path = image("backup", "raw")
    machine.guest.qmp("blockdev-add", driver="raw", node_name="backup", file={"driver": "file", "filename": path})
    machine.job("blockdev-backup", device="first", target="backup", sync="full")
    machine.guest.qmp("blockdev-del", node_name="backup")


def snapshot(machine, name):
    path = f"{directory}/{name}"
    machine.guest.qmp("blockdev-snapshot-sync", node_name="first" if name == "over1" else "over1", snapshot_file=path,
                      snapshot_node_name=name, format="qcow2")
    machine.disk = path


def snapshots_streamed(machine):
    snapshot(machine, "over1")
    machine.exact()
    snapshot(machine, "over2")
    machine.exact()
    machine.job("block-stream", device="over2", base_node="first")


def committed(machine):
    machine.job("block-commit", device="over2")
    machine.disk = f"{directory}/first"


def resized(machine):
    machine.guest.qmp("block_resize", node_name="first", size=SIZE + (1 << 20))
    machine.epochs(2, 0.05)
    assert len(machine.peer.objects["disk", "first"]) == SIZE + (1 << 20)


def reopened(machine):
    machine.guest.qmp("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "first", "file": "first-file", "discard": "unmap"}])


def bitmaps(machine):
    machine.guest.qmp("block-dirty-bitmap-add", node="first", name="kept", persistent=True)
    machine.exact()
    machine.guest.qmp("block-dirty-bitmap-remove", node="first", name="kept")


# --- hotplug -------------------------------------------------------------------

def disk_plugged(machine):
    """A SCSI disk, which the guest need not let go of."""
    path = image("hot", "raw")
    machine.guest.qmp("blockdev-add", driver="raw", node_name="hot", file={"driver": "file", "filename": path})
    machine.guest.qmp("device_add", driver="scsi-hd", drive="hot", id="hot", bus="scsi0.0")
    machine.epochs(2, 0.05)
    machine.write("hot")
    machine.exact(hot=(path, "raw"))
    machine.guest.qmp("device_del", id="hot")
    machine.guest.qmp_connection.wait_event("DEVICE_DELETED", 20)
    machine.guest.qmp("blockdev-del", node_name="hot")
    del machine.images["hot"]
    machine.epochs(2, 0.05)
    assert machine.info()["disks"] == ["first"], machine.info()


def network_plugged(machine):
    machine.guest.qmp("netdev_add", type="user", id="net1")
    machine.guest.qmp("device_add", driver="virtio-net-pci", id="nic1", netdev="net1", bus="port1")


def processor_plugged(machine):
    cpu = next(cpu for cpu in machine.guest.qmp("query-hotpluggable-cpus") if "qom-path" not in cpu)
    machine.guest.qmp("device_add", driver=cpu["type"], id="cpu1", **cpu["props"])
    machine.epochs(2, 0.05)


def memory_plugged(machine):
    for number, kind in enumerate(("memory-backend-ram", "memory-backend-memfd")):
        machine.guest.qmp("object-add", qom_type=kind, id=f"mem{number}", size=128 << 20)
        machine.guest.qmp("device_add", driver="pc-dimm", id=f"dimm{number}", memdev=f"mem{number}")
    machine.epochs(2, 0.05)
    assert {("ram", "mem0"), ("ram", "mem1")} <= set(machine.peer.objects), machine.peer.objects.keys()


# --- migration and dumps ---------------------------------------------------------

def migrated_to_file(machine, capabilities=(), **parameters):
    guest = machine.guest
    guest.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in capabilities])
    if parameters:
        guest.qmp("migrate-set-parameters", **parameters)
    try:
        guest.qmp("migrate", uri=f"file:{directory}/state")
        end = time.monotonic() + 60
        while (status := guest.qmp("query-migrate").get("status")) != "completed":
            assert status != "failed" and time.monotonic() < end, guest.qmp("query-migrate")
            time.sleep(0.02)
    finally:
        guest.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": False} for name in capabilities])
    if guest.qmp("query-status")["status"] == "postmigrate":
        assert machine.wait_state("suspended")["reason"].startswith("the machine has been migrated")
        guest.qmp("cont")


def mapped_ram(machine):
    migrated_to_file(machine, ("mapped-ram",))


def multifd(machine):
    migrated_to_file(machine, ("mapped-ram", "multifd"), multifd_channels=2)


def background_snapshot(machine):
    migrated_to_file(machine, ("background-snapshot",))


def dump(machine):
    machine.guest.qmp("dump-guest-memory", paging=False, protocol=f"file:{directory}/dump", timeout_s=60)


def dump_detached(machine):
    machine.guest.qmp("dump-guest-memory", paging=False, protocol=f"file:{directory}/dump", detach=True)
    machine.peer.ask()
    while machine.guest.qmp("query-dump")["status"] == "active":
        time.sleep(0.02)
    assert machine.guest.qmp("query-dump")["status"] == "completed"
    machine.epochs(1)


def dirty_rate(machine):
    """All users of the dirty log share one bitmap."""
    for mode in ("page-sampling", "dirty-bitmap"):
        machine.guest.qmp("calc-dirty-rate", calc_time=1, mode=mode)
        machine.epochs(3, 0.2)
        while machine.guest.qmp("query-dirty-rate")["status"] == "measuring":
            time.sleep(0.05)


def saved_and_loaded(machine):
    for command in ("savevm one", "loadvm one", "delvm one"):
        machine.write()
        machine.epochs(1, 0.02)
        answer = machine.guest.qmp("human-monitor-command", **{"command-line": command}, timeout_s=60)
        assert not answer, answer


def snapshot_loaded(machine):
    """It names the node below the filter, whose content is then another."""
    node = machine.guest.qmp("query-named-block-nodes", flat=True)
    node = next(n["node-name"] for n in node if n["drv"] == "qcow2" and n["file"] == machine.disk)
    for command in ("snapshot-save", "snapshot-load"):
        machine.write()
        machine.epochs(1, 0.02)
        machine.guest.qmp(command, job_id="snapshot", tag="two", vmstate=node, devices=[node])
        end = time.monotonic() + 60
        while (job := machine.guest.qmp("query-jobs")[0])["status"] != "concluded":
            assert time.monotonic() < end, job
            time.sleep(0.02)
        assert "error" not in job, job
        machine.guest.qmp("job-dismiss", id="snapshot")


OPERATIONS = [reopened, backup, snapshots_streamed, committed, resized, bitmaps, disk_plugged, network_plugged, processor_plugged,
              saved_and_loaded, snapshot_loaded, mapped_ram, multifd, background_snapshot, dump, dump_detached, dirty_rate, memory_plugged]


def one_after_the_other():
    """Block jobs, hotplug, migrations and dumps, exact after each."""
    with Machine() as machine:
        machine.exact()
        for operation in OPERATIONS:
            start = time.monotonic()
            try:
                operation(machine)
                machine.exact()
            except Exception as error:
                raise AssertionError(f"{operation.__name__}: {error}") from error
            print(f"# {operation.__name__}: {time.monotonic() - start:.1f} s", flush=True)
        return machine.check_guest() + f", {machine.peer.modes}"


if __name__ == "__main__":
    try:
        sys.exit(run([one_after_the_other]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
