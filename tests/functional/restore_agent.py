#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""restore-agent brings a guest back from a store: lazily, aggressively, with agents dying under it,
with the store away, byte for byte, twice at once, and with its disk over NBD."""
# limit: 600
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fake_agent import read_ram  # noqa: E402
from guest import qemu_dir  # noqa: E402
from ckpt_site import wait_until  # noqa: E402
from restore import Saved, built, load_devices, wait_state  # noqa: E402


def byte_for_byte(saved):
    with saved.agent("full") as agent, saved.machine(["-S"]) as guest:
        load_devices(guest, saved)
        assert agent.wait_end() == 0
        wait_state(guest, "done")
        there = read_ram(guest)
        different = sum(there[name][i:i + 4096] != content[i:i + 4096]
                        for name, content in saved.ram.items() if there[name] != content
                        for i in range(0, len(content), 4096))
        assert different <= 2, f"{different} pages differ"  # loading devices may write a word
        status = agent.status()
        assert status["state"] == "done" and status["pages_present"] == status["pages_total"]


def lazy(saved):
    with saved.agent("lazy", "--working-set", saved.directory + "/ws") as agent, saved.machine() as guest:
        load_devices(guest, saved)
        saved.check(guest)
        before = agent.ask("status")
        assert before["pages_prefetched"] == 0 and 0 < before["pages_present"] < before["pages_total"], before
        time.sleep(1)
        assert agent.ask("mark ttr") == {"ok": True}
        assert not agent.ask("mode fast")["ok"]
        assert agent.ask("mode aggressive") == {"ok": True}
        assert agent.wait_end() == 0
        wait_state(guest, "done")
        saved.check(guest)
        assert os.path.getsize(saved.directory + "/ws") > 100


def aggressive(saved):
    """With the working set that the lazy restore recorded."""
    with saved.agent("aggressive", "--working-set", saved.directory + "/ws") as agent:
        with saved.machine() as guest:
            load_devices(guest, saved)
            assert agent.wait_end() == 0
            status = agent.status()
            assert status["pages_prefetched"] > 0 and "ram_local" in status["marks_ms"], status
            saved.check(guest)


def wait_takeover(guest, number):
    wait_until(lambda: guest.qmp("query-checkpoint-restore")["takeovers"] >= number, 15, "takeover")


def agents_die(saved):
    with saved.agent("lazy") as agent, saved.machine() as guest:
        load_devices(guest, saved)
        for round_number in range(12):
            agent.kill()
            agent.start()
            wait_takeover(guest, round_number + 1)
            time.sleep(0.05 * (round_number % 3))
        saved.check(guest)
        assert agent.status()["taken_over"]
        agent.ask("mode full")
        assert agent.wait_end() == 0
        saved.check(guest)


def no_agent_for_a_while(saved):
    """Nobody asks the monitor meanwhile: TCG delivers interrupts under QEMU's big lock, and may wait for memory with it."""
    with saved.agent("lazy") as agent, saved.machine() as guest:
        load_devices(guest, saved)
        agent.kill()
        time.sleep(2)
        agent.start()
        wait_takeover(guest, 1)
        saved.check(guest)


def store_away(saved):
    """A new agent finds no store, or one without its segments: it waits with the machine, and so does one after it."""
    with saved.agent("lazy") as agent, saved.machine() as guest:
        load_devices(guest, saved)
        for away in (saved.store, saved.store + "/segments"):
            agent.kill()
            os.rename(away, away + ".away")
            agent.start()
            wait_until(lambda: agent.status()["state"] == "waiting for store", 30, "the agent's wait for the store")
            agent.kill()
            agent.start()
            status = wait_until(lambda: (now := agent.status())["state"] and now, 30, "the next one's status")
            assert status["state"] == "waiting for store" and status["taken_over"], status
            assert saved.directory in status["reason"] or "segments" in status["reason"], status
            assert agent.process.poll() is None
            os.rename(away + ".away", away)
            wait_state(guest, "restoring")
            saved.check(guest)
            assert agent.process.poll() is None and agent.status()["taken_over"]


def no_store_at_first(saved):
    """Without a machine that waits for it, an agent that finds no store says so and ends."""
    os.rename(saved.store, saved.store + ".away")
    try:
        with saved.agent("lazy", name="first") as agent:
            assert agent.wait_end(30) == 1
    finally:
        os.rename(saved.store + ".away", saved.store)
    with open(saved.directory + "/agent.log") as log:
        assert f"there is no store at {saved.store}" in log.read().splitlines()[-1]


def two_at_once(saved):
    with saved.agent("lazy", name="a") as _, saved.agent("aggressive", name="b") as _:
        with saved.machine(name="a") as one, saved.machine(name="b") as two:
            load_devices(one, saved)
            load_devices(two, saved)
            saved.check(one)
            saved.check(two)


def machine_goes(saved):
    with saved.agent("lazy") as agent:
        with saved.machine() as guest:
            load_devices(guest, saved)
            guest.kill()
            assert agent.wait_end(10) == 3
    assert agent.status()["state"] == "gone"


def disk_over_nbd(saved):
    sock, overlay = saved.directory + "/nbd.sock", saved.directory + "/overlay.qcow2"
    server = subprocess.Popen(["nbdkit", "-f", "-r", "-U", sock, built("nbdkit-ckpt-plugin.so"),
                               f"store={saved.store}", f"checkpoint={saved.checkpoint}", "disk=disk0"])
    try:
        wait_until(lambda: os.path.exists(sock), 30, "nbdkit")
        qemu_img = qemu_dir() + "/qemu-img"
        subprocess.check_call([qemu_img, "compare", "-q", "-f", "raw", "-F", "raw", f"nbd+unix:///?socket={sock}",
                               saved.directory + "/checkpoint/disk+disk0"])
        extents = subprocess.check_output([qemu_img, "map", "--output=json", "-f", "raw",
                                           f"nbd+unix:///?socket={sock}"], text=True)
        assert '"zero": true' in extents, "holes of the disk are not passed on"
        subprocess.check_call([qemu_img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                               f"nbd+unix:///?socket={sock}", overlay])
        with saved.agent("aggressive") as agent, saved.machine(disk=(overlay, "qcow2")) as guest:
            load_devices(guest, saved)
            saved.check(guest)
            guest.qmp("block-stream", job_id="home", device="disk0")
            guest.qmp_connection.wait_event("BLOCK_JOB_COMPLETED")
            server.kill()
            server.wait()
            assert agent.wait_end() == 0
            saved.check(guest)
    finally:
        server.kill()
        server.wait()


def does_not_start(saved, words, *extra, **how):
    """QEMU ends by itself, and says why."""
    guest, arguments = saved.prepared(extra, **how)
    with guest:
        ended = subprocess.run(guest.command_line() + arguments, stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended
    for word in words:
        assert word in ended.stderr, ended.stderr


def wrong_machine(saved):
    """Other memory than the checkpoint's, or another device: refused; the right one is still restored afterwards."""
    with saved.agent("lazy") as agent:
        does_not_start(saved, ["RAM block 'pc.ram'", str(saved.memory_mib << 20), "start QEMU with the memory"],
                       memory_mib=saved.memory_mib + 32)
        does_not_start(saved, ["no RAM block", "vga.vram", "start QEMU with the devices"], "-device", "VGA")
        with saved.machine() as guest:
            load_devices(guest, saved)
            saved.check(guest)
        assert agent.wait_end() == 3


def second_machine(saved):
    """An agent has one machine: another is refused by the agent, and the first one does not notice."""
    other_disk = saved.directory + "/other.raw"
    shutil.copy(saved.directory + "/checkpoint/disk+disk0", other_disk)
    with saved.agent("lazy") as agent, saved.machine() as guest:
        load_devices(guest, saved)
        does_not_start(saved, ["the restore agent refused", "this agent serves another machine already: start one"],
                       disk=(other_disk, "raw"))
        wait_state(guest, "restoring")
        saved.check(guest)
        assert agent.process.poll() is None


def main():
    with Saved(epochs=2) as saved:
        tests = [byte_for_byte, lazy, aggressive, agents_die, no_agent_for_a_while, store_away,
                 no_store_at_first, two_at_once, machine_goes, disk_over_nbd, wrong_machine, second_machine]
        chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
        print(f"1..{len(chosen)}", flush=True)
        failed = 0
        for number, test in enumerate(chosen, 1):
            try:
                test(saved)
                print(f"ok {number} - {test.__name__}", flush=True)
            except Exception as error:  # a failed case must not keep the others from running
                failed += 1
                print(f"not ok {number} - {test.__name__}", flush=True)
                print(f"# {type(error).__name__}: {error}".replace("\n", "\n# "), flush=True)
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
