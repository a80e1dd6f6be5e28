#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's checkpoint-restore object with a stand-in for the agent: RAM and devices of a stopped
guest come back in another QEMU, byte for byte; agents die and are replaced."""
# limit: 400
import os
import shutil
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE + "/lib", HERE + "/../qemu"]
from fake_agent import FakeAgent, read_ram  # noqa: E402
from guest import Guest  # noqa: E402
from stream_peer import Peer  # noqa: E402

MEMORY_MIB = 128


def take_machine(directory, **how):
    """Boot, put load on it, stop it, and save everything of it."""
    with Guest("linux-small", memory_mib=MEMORY_MIB, **how) as source:
        source.start()
        source.wait_ready()
        assert source.cmd("load 24 2000 20") == "ok"
        time.sleep(2)
        nonce, counter = source.cmd("nonce"), int(source.cmd("counter"))
        source.qmp("stop")
        source.qmp("xen-save-devices-state", filename=directory + "/devices", live=True)
        ram = read_ram(source)
        shutil.copy(source.disks[0][0], directory + "/disk.raw")
    return ram, nonce, counter


def restored(directory, extra, **how):
    shutil.copy(directory + "/disk.raw", directory + "/disk.restored")
    guest = Guest("linux-small", memory_mib=MEMORY_MIB, disks=[(directory + "/disk.restored", "raw")],
                  **how)
    # The stream is of device state only, and QEMU writes no configuration section to it.
    guest.start(["-object", f"checkpoint-restore,id=restore0,path={directory}/agent.sock",
                 "-incoming", "defer", "-global", "migration.send-configuration=off", *extra])
    return guest


def load_devices(guest, directory):
    guest.qmp("migrate-incoming", uri=f"exec:cat {directory}/devices")
    end = time.monotonic() + 30
    while guest.qmp("query-migrate").get("status") != "completed":
        assert time.monotonic() < end, guest.qmp("query-migrate")
        time.sleep(0.02)


def wait_state(guest, state):
    end = time.monotonic() + 10
    while (info := guest.qmp("query-checkpoint-restore"))["state"] != state:
        assert time.monotonic() < end, info
        time.sleep(0.02)
    return info


def huge_page_bans(guest):
    """How many of the machine's mappings of RAM may not get huge pages."""
    with open(f"/proc/{guest.process.pid}/smaps", encoding="ascii") as smaps:
        sizes, bans = 0, 0
        for line in smaps:
            if line.startswith("Size:"):
                sizes = int(line.split()[1])
            elif line.startswith("VmFlags:") and sizes >= 32 << 10:
                bans += " nh" in line
    return bans


def check_bytes(directory, ram, **how):
    """A machine that never ran: all of RAM is what it was."""
    with FakeAgent(directory + "/agent.sock", ram) as agent:
        with restored(directory, ["-S"], **how) as guest:
            assert wait_state(guest, "restoring")["blocks"] == len(ram)
            load_devices(guest, directory)
            assert huge_page_bans(guest)
            agent.fill_all()
            agent.done()
            wait_state(guest, "done")
            assert not huge_page_bans(guest), "restored memory gets no huge pages"
            there = read_ram(guest)
            # Loading devices writes a few words (the kvmvapic option ROM, for one).
            different = {name: sum(there[name][i:i + 4096] != data[i:i + 4096]
                                   for i in range(0, len(data), 4096))
                         for name, data in ram.items() if there[name] != data}
            assert sum(different.values()) <= 2, different
            print("byte for byte, but for pages that loading devices writes:", different)


def check_takeover(directory, ram, nonce, counter, **how):
    """A machine that runs: three agents die under it, and its memory stays right."""
    agent = FakeAgent(directory + "/agent.sock", ram)
    guest = restored(directory, [], **how)
    try:
        load_devices(guest, directory)
        for _ in range(3):
            time.sleep(0.3)
            agent.die()
            agent = FakeAgent(directory + "/agent.sock", ram)
            # Under TCG the monitor may wait for memory too: interrupts are delivered under QEMU's big lock.
            assert agent.ready.wait(30)
            wait_state(guest, "restoring")
            assert agent.phases == [1], agent.phases
        assert wait_state(guest, "restoring")["takeovers"] == 3
        answer = guest.cmd("verify", timeout_s=60)
        assert answer.startswith("ok"), answer
        assert guest.cmd("nonce") == nonce
        assert int(guest.cmd("counter")) > counter
        print("taken over three times;", answer, "faults of the last agent:", agent.faults)
        agent.fill_all()
        agent.done()
        wait_state(guest, "done")
        assert guest.cmd("verify", timeout_s=60).startswith("ok")
    finally:
        guest.close()
        agent.__exit__()


def settle(guest):
    """Until what interrupts need is there: TCG delivers them under QEMU's big lock, and the monitor would wait for it, too."""
    for _ in range(5):
        guest.cmd("nonce", timeout_s=60)  # so much has the guest done by then, however slow the host is
        time.sleep(0.4)


def check_capture(directory, ram, counter, **how):
    """A vCPU that waits for an agent which has gone holds up the next epoch, and nothing else."""
    peer = Peer(directory + "/stream.sock")
    peer.durable, peer.next_epoch = 7, 8
    agent = FakeAgent(directory + "/agent.sock", ram)
    stream = f"checkpoint-stream,id=ck0,path={directory}/stream.sock,base=vm@7"
    guest = restored(directory, ["-object", stream], **how)
    try:
        load_devices(guest, directory)
        peer.take()
        assert peer.modes == ["continue"], peer.modes
        assert guest.cmd("stop", timeout_s=60) == "ok"
        settle(guest)
        agent.die()
        wait_state(guest, "waiting-for-agent")
        verified = []
        verify = threading.Thread(target=lambda: verified.append(guest.cmd("verify", timeout_s=120)))
        verify.start()
        time.sleep(1)
        before = len(peer.ends)
        peer.ask()
        end = time.monotonic() + 30
        while "processor" not in guest.qmp("query-checkpoint-stream", timeout_s=5)[0].get("reason", ""):
            assert time.monotonic() < end, guest.qmp("query-checkpoint-stream")
            time.sleep(0.05)
        assert guest.qmp("query-status", timeout_s=5)["status"] == "running"
        assert len(peer.ends) == before and not verified, (peer.ends[before:], verified)
        agent = FakeAgent(directory + "/agent.sock", ram)
        peer.wait(lambda: len(peer.ends) > before, 60)
        verify.join()
        assert verified[0].startswith("ok") and int(guest.cmd("counter")) > counter, verified
        print("while the agent was away QEMU answered, and the epoch came after it:", peer.ends[before])
    finally:
        guest.close()
        agent.__exit__()
        peer.close()


def check_added(directory, ram, **how):
    """Capture that begins during the restore: pages that are not there yet are not taken for zeroes, and while the copy waits
    for them, and for an agent, memory can be added."""
    agent = FakeAgent(directory + "/agent.sock", ram)
    guest = restored(directory, [], **how)
    peer = Peer(directory + "/stream.sock")
    try:
        load_devices(guest, directory)
        assert guest.cmd("stop", timeout_s=60) == "ok"
        settle(guest)
        agent.die()
        wait_state(guest, "waiting-for-agent")
        guest.qmp("object-add", qom_type="checkpoint-stream", id="ck0", path=peer.path)
        peer.wait(lambda: peer.open is not None)
        time.sleep(1)  # by now the copy has come to a page that is not there
        guest.qmp("object-add", qom_type="memory-backend-ram", id="more", size=8 << 20, timeout_s=10)
        guest.qmp("object-del", id="more")
        assert not peer.ends, peer.ends
        agent = FakeAgent(directory + "/agent.sock", ram)
        peer.take(120)
        guest.qmp("stop")
        peer.take()
        agent.fill_all()  # what nobody has touched yet
        for name, live in read_ram(guest, ["pc.ram"]).items():
            different = [at for at in range(0, len(live), 4096) if peer.objects["ram", name][at:at + 4096] != live[at:at + 4096]]
            assert not different, f"{name}: {len(different)} pages differ, the first at {different[0]}"
        print("added during the restore: all of memory is right; faults of the last agent:", agent.faults)
    finally:
        guest.close()
        agent.__exit__()
        peer.close()


def main():
    with Guest("linux-small", memory_mib=MEMORY_MIB) as holder:  # for its directory only
        directory = holder.directory
        ram, nonce, counter = take_machine(directory, cpus=2)
        check_bytes(directory, ram, cpus=2)
        check_takeover(directory, ram, nonce, counter, cpus=2)
        check_capture(directory, ram, counter, cpus=2)
        check_added(directory, ram, cpus=2)


if __name__ == "__main__":
    main()
