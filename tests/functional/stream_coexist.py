#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capture beside what else users do to a running machine: each works, or is suspended or refused
with a reason; afterwards the replica is equal again."""
# limit: 900
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, Skip, qemu_dir, run  # noqa: E402
from guest import QmpError  # noqa: E402

MIB = 128
LOAD = "load 24 1500 40"


def small(**how):
    how.setdefault("memory_mib", MIB)
    case = Case(cpus=2, **how)
    case.guest.cmd(LOAD)
    return case


def wait_migration(guest, *states):
    end = time.monotonic() + 60
    while guest.qmp("query-migrate").get("status") not in states:
        assert time.monotonic() < end, guest.qmp("query-migrate")
        time.sleep(0.02)


def object_add_and_del():
    """object-add on a running machine, object-del, and again."""
    with small(capture=False) as case:
        for _ in range(2):
            case.add_object()
            case.epochs(2)
            case.check_replica()
            case.guest.qmp("object-del", id="ck0")
            assert case.guest.qmp("query-checkpoint-stream") == []
            case.check_guest()
        assert case.peer.modes == ["full", "full"], case.peer.modes


def one_stream_only():
    """A second object is refused, a late base too."""
    with small() as case:
        case.epochs(1)
        for arguments, text in (({"id": "ck1"}, "already"),):
            try:
                case.guest.qmp("object-add", qom_type="checkpoint-stream", path="/x", **arguments)
                raise AssertionError("accepted")
            except QmpError as error:
                assert text in str(error), error
        case.guest.qmp("object-del", id="ck0")
        for extra, text in (({"base": "vm@3"}, "incoming"), ({"base": "vm"}, "as the daemon names it"),
                            ({"queue-size": 5}, "queue-size"), ({"path": "x" * 200}, "too long")):
            try:
                case.guest.qmp("object-add", qom_type="checkpoint-stream", id="ck1",
                               **{"path": "/x", **extra})
                raise AssertionError("accepted")
            except QmpError as error:
                assert text in str(error), error
        case.check_guest()


def saved_to_a_file():
    """A migration to a file suspends capture; when the machine runs on, capture does too."""
    with small() as case:
        case.epochs(2)
        case.guest.qmp("migrate", uri=f"file:{case.directory}/state")
        wait_migration(case.guest, "completed")
        info = case.wait_state("suspended")
        assert "migrated" in info["reason"], info
        case.guest.qmp("cont")
        case.epochs(2)
        case.check_replica()
        assert case.peer.modes == ["full"], case.peer.modes
        case.check_guest()


def migration_cancelled():
    """A cancelled migration: capture is suspended meanwhile and complete afterwards."""
    with small() as case:
        case.epochs(2)
        case.guest.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
        case.guest.qmp("migrate", uri=f"file:{case.directory}/state")
        wait_migration(case.guest, "active")
        info = case.wait_state("suspended")
        assert "goes on when it ends" in info["reason"], info
        assert case.peer.state[0] == 3, case.peer.state
        before = len(case.peer.ends)
        case.peer.ask()
        time.sleep(1)
        assert len(case.peer.ends) == before
        case.guest.qmp("migrate_cancel")
        wait_migration(case.guest, "cancelled", "failed")
        case.peer.wait(lambda: len(case.peer.ends) > before)
        case.epochs(2)
        case.check_replica()
        case.check_guest()


def savevm_and_loadvm():
    """savevm and loadvm: all memory and disks are right afterwards."""
    with small(disks=[qcow2("savevm")]) as case:
        case.epochs(1)
        case.guest.qmp("human-monitor-command", **{"command-line": "savevm one"}, timeout_s=60)
        case.epochs(2)
        case.check_replica()
        answer = case.guest.qmp("human-monitor-command", **{"command-line": "loadvm one"},
                                timeout_s=60)
        assert not answer, answer
        case.epochs(1)
        case.check_replica()
        case.check_guest()
        return case.info()["disks"]


def qcow2(name, size="64M"):
    path = f"/tmp/ckpt-{os.getpid()}-{name}.qcow2"
    subprocess.check_call([qemu_dir() + "/qemu-img", "create", "-q", "-f", "qcow2", path, size])
    temporary.append(path)
    return path, "qcow2"


temporary = []


def system_reset():
    """system_reset under capture."""
    with small() as case:
        case.epochs(1)
        case.guest.qmp("system_reset")
        case.epochs(3)
        case.guest.line.close()
        case.guest.line = None
        case.guest.wait_ready()
        case.guest.cmd(LOAD)
        case.epochs(1)
        case.check_replica()


def disk_hotplug():
    """A disk that is plugged in is in the next epoch; unplugged, it is gone and not busy."""
    ports = ["-device", "pcie-root-port,id=port1,chassis=1,slot=1"]
    with small(extra=ports) as case:
        case.epochs(1)
        path = case.directory + "/second.raw"
        with open(path, "wb") as image:
            image.write(os.urandom(3 << 20))
            image.truncate(16 << 20)
        case.guest.qmp("blockdev-add", driver="file", filename=path, node_name="second")
        case.guest.qmp("device_add", driver="virtio-blk-pci", drive="second", id="hot0", bus="port1")
        case.images["hot0"] = path
        case.epochs(2)
        assert sorted(case.info()["disks"]) == ["hot0", "vd0"], case.info()
        case.check_replica()
        assert case.peer.modes == ["full", "continue"], case.peer.modes
        time.sleep(6)  # the guest's hot-plug driver blinks for 5 s before it listens
        case.guest.qmp("device_del", id="hot0")
        try:
            case.guest.qmp_connection.wait_event("DEVICE_DELETED", 20)
        except TimeoutError:
            raise Skip("the guest does not let go of the device") from None
        time.sleep(0.1)
        case.guest.qmp("blockdev-del", node_name="second")
        del case.images["hot0"]
        case.epochs(2)
        assert case.info()["disks"] == ["vd0"], case.info()
        case.check_replica()
        assert ("disk", "hot0") not in case.peer.objects


def disk_resize():
    """block_resize by node name: the stream follows, and so does the guest."""
    with small() as case:
        case.epochs(1)
        case.guest.qmp("block_resize", node_name="disk0", size=80 << 20)
        case.epochs(2)
        assert len(case.peer.objects["disk", "vd0"]) == 80 << 20
        case.check_replica()


def disk_snapshot():
    """An external snapshot on top: the overlay is captured instead, and complete."""
    with small() as case:
        case.epochs(1)
        overlay = case.directory + "/overlay.qcow2"
        case.guest.qmp("blockdev-snapshot-sync", node_name="disk0", snapshot_file=overlay,
                       snapshot_node_name="over0", format="qcow2")
        case.guest.disks = [(overlay, "qcow2")]
        case.epochs(2)
        case.check_replica()
        case.check_guest()


def block_mirror():
    """A mirror job under capture, to its end."""
    with small() as case:
        case.epochs(1)
        path = case.directory + "/copy.raw"
        with open(path, "wb") as image:
            image.truncate(64 << 20)
        case.guest.qmp("blockdev-add", driver="raw", node_name="copy",
                       file={"driver": "file", "filename": path})
        case.guest.qmp("blockdev-mirror", job_id="m", device="disk0", target="copy", sync="full")
        case.guest.qmp_connection.wait_event("BLOCK_JOB_READY", 30)
        case.epochs(2)
        case.guest.qmp("block-job-complete", device="m")
        case.guest.qmp_connection.wait_event("BLOCK_JOB_COMPLETED", 30)
        case.guest.disks = [(path, "raw")]
        case.epochs(2)
        case.check_replica()
        case.check_guest()


def memory_hotplug():
    """Memory that is plugged in is in the next epoch."""
    with small(extra=["-m", "256,slots=2,maxmem=1G"]) as case:
        case.epochs(1)
        case.guest.qmp("object-add", qom_type="memory-backend-ram", id="mem1", size=128 << 20)
        case.guest.qmp("device_add", driver="pc-dimm", id="dimm1", memdev="mem1")
        case.epochs(2)
        assert len(case.peer.objects["ram", "mem1"]) == 128 << 20
        case.check_replica()
        assert case.peer.modes == ["full", "continue"], case.peer.modes


def balloon():
    """Pages that the balloon gave back read as zeroes in the replica."""
    with small(extra=["-device", "virtio-balloon-pci"]) as case:
        case.epochs(1)
        case.guest.qmp("balloon", value=100 << 20)
        time.sleep(2)
        case.epochs(2)
        case.check_replica()
        return case.guest.qmp("query-balloon")


def stopped_machine():
    """A stopped machine can be captured, and stays stopped."""
    with small() as case:
        case.guest.qmp("stop")
        for _ in range(3):
            figures = case.peer.take()
            assert figures["run_state"] == 2, figures
        assert case.guest.qmp("query-status")["status"] == "paused"
        case.guest.qmp("cont")
        case.epochs(1)
        case.check_replica()


def no_events():
    """An epoch is no event and no change of the run state for QMP."""
    with small() as case:
        case.epochs(1)
        case.guest.qmp("query-status")
        case.guest.qmp_connection.events.clear()
        case.epochs(20, 0.02)
        case.guest.qmp("query-status")
        assert case.guest.qmp_connection.events == [], case.guest.qmp_connection.events


def refused_at_start():
    """What cannot be captured is refused by name and reason when QEMU starts."""
    null = ["-blockdev", "null-co,node-name=null0,size=1048576"]
    for extra, text in ((null + ["-device", "nvme,drive=null0,serial=1"], "nvme"),
                        (["-m", "128,maxmem=1G", "-object", "memory-backend-ram,id=vm0,size=256M",
                          "-device", "virtio-mem-pci,memdev=vm0,id=vmem0"], "vmem0")):
        done = subprocess.run([qemu_dir() + "/qemu-system-x86_64", "-nodefaults", "-display", "none",
                               "-M", "q35", "-object", "checkpoint-stream,id=c,path=/x", *extra],
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1 and text in done.stderr, (done.returncode, done.stderr)


def refused_later():
    """A device that cannot be captured suspends capture while it is plugged in."""
    ports = ["-device", "pcie-root-port,id=port1,chassis=1,slot=1"]
    with small(extra=ports) as case:
        case.epochs(1)
        case.guest.qmp("blockdev-add", driver="null-co", node_name="null0", size=1 << 20)
        case.guest.qmp("device_add", driver="nvme", drive="null0", serial="1", id="nvme0", bus="port1")
        case.peer.ask()
        info = case.wait_state("suspended")
        assert "nvme" in info["reason"], info
        time.sleep(6)
        case.guest.qmp("device_del", id="nvme0")
        try:
            case.guest.qmp_connection.wait_event("DEVICE_DELETED", 20)
        except TimeoutError:
            raise Skip("the guest does not let go of the device") from None
        case.wait_state("capturing")
        case.epochs(1)
        case.check_replica()


if __name__ == "__main__":
    try:
        sys.exit(run([object_add_and_del, one_stream_only, stopped_machine, no_events,
                      saved_to_a_file, migration_cancelled, savevm_and_loadvm, system_reset,
                      disk_hotplug, disk_resize, disk_snapshot, block_mirror, memory_hotplug,
                      balloon, refused_at_start, refused_later]))
    finally:
        for name in temporary:
            os.unlink(name)
