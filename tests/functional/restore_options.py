#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""The options of ckptctl restore, on one guest that is lost again and again: points by time, full mode, bandwidth, waiting, foreground,
copies beside each other, other places and disks, the VM generation ID and the clock."""
import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Machine, Site, alive, wait_until  # noqa: E402
from fake_agent import read_ram  # noqa: E402
from guest import Guest, Qmp, qemu_dir  # noqa: E402

GUID = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"


def tell_agent(path, line):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(line.encode() + b"\n")
        return json.loads(connection.makefile().readline())


class StandInGuestAgent(threading.Thread):
    """Answers at the guest agent's socket as qemu-ga does: at first with what an earlier client had asked for."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.asked = []
        self.can_set = True
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.start()

    def run(self):
        while True:
            client = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        for line in client.makefile("rb"):
            request = json.loads(line.lstrip(b"\xff"))
            self.asked.append(request["execute"])
            if request["execute"] == "guest-sync-delimited":
                client.sendall(b'{"return": {"left": "over"}}\n\xff' + json.dumps({"return": request["arguments"]["id"]}).encode() + b"\n")
            elif self.can_set:
                client.sendall(b'{"return": {}}\n')
            else:
                client.sendall(b'{"error": {"class": "GenericError", "desc": "hwclock failed"}}\n')


def devices(agent):
    return ["-device", f"vmgenid,guid={GUID},id=generation0", "-device", "virtio-serial-pci",
            "-chardev", f"socket,path={agent.listener.getsockname()},id=ga0",
            "-device", "virtserialport,chardev=ga0,name=org.qemu.guest_agent.0"]


class Options:
    def __init__(self, site, guest, agent):
        self.site, self.guest, self.guest_agent = site, guest, agent
        self.nonce = guest.cmd("nonce")
        self.number = 0

    def restore(self, point="vm", *options, name="vm"):
        """Into a directory of its own each time, so that no image is in the way of another."""
        self.number += 1
        place = f"{self.site.directory}/place{self.number}"
        os.mkdir(place)
        answer = self.site.restore(self.guest, point, ["--disk-dir", place, *options])
        self.is_restored(self.guest)
        disk = self.site.restore_of(name)["disks"][0]
        assert os.path.dirname(disk["overlay"]) == place, disk
        return answer

    def is_restored(self, guest):
        # What was asked before the checkpoint may be answered first.
        assert any(guest.cmd("nonce", timeout_s=60) == self.nonce for _ in range(3)), "rebooted, not restored"
        guest._settle()

    def found(self, pid):
        """The guest runs as this process, which Site.restore() has not seen."""
        self.site.adopt(pid)
        self.guest.process, self.guest.log = Machine(pid), open(os.devnull)
        self.guest.qmp_connection = Qmp(self.guest.path("qmp.sock"))

    def lose(self, name="vm"):
        self.guest.kill()
        wait_until(lambda: not self.site.machine(name)["connected"], 30, "ckptd to notice")
        wait_until(lambda: all(r["phase"] in ("ended", "failed") for r in self.site.ctl("restores", name)["restores"]), 30,
                   "the restore to be over")

    def refused(self, code, *arguments):
        try:
            self.site.ctl_text("restore", *arguments)
        except CtlError as error:
            assert error.code == code, error
            return error.text
        raise AssertionError(f"{arguments} was not refused")

    def points_by_time(self):
        points = self.site.checkpoints("vm")
        newest = points[-1]["wall_clock_ns"]
        wanted = [p for p in points if p["wall_clock_ns"] <= newest - 2_000_000_000][-1]
        answer = self.restore("vm@-2s")
        assert answer["checkpoint"]["number"] == wanted["number"], (answer, wanted)
        self.lose()
        instant = datetime.datetime.fromtimestamp(wanted["wall_clock_ns"] / 1e9 + 0.001, datetime.timezone.utc)
        answer = self.restore("vm@" + instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        assert answer["checkpoint"]["number"] == wanted["number"], (answer, wanted)
        self.refused(1, "vm@1999-01-01T00:00:00Z", "--as", "other")

    def full_mode(self):
        """Nothing is missing any more when the guest starts: no agent, no disk server, no fault after it."""
        answer = self.restore("vm", "--mode", "full")
        restore = self.site.restore_of("vm")
        agent = restore["agent"]
        assert agent["state"] == "done" and not alive(restore["agent_pid"]), agent
        ended_ns = agent["started_ns"] + agent["marks_ms"]["end"] * 1_000_000
        assert ended_ns < restore["begun_ns"] + restore["running_ms"] * 1_000_000, "the agent was there when the guest started"
        assert agent["service"] == {}, "vCPUs have waited"
        assert self.guest.qmp("query-checkpoint-restore")["state"] == "done"
        assert all(disk["local"] for disk in restore["disks"]), restore
        image = json.loads(subprocess.check_output(
            [qemu_dir() + "/qemu-img", "info", "-U", "--output=json", restore["disks"][0]["overlay"]]))
        assert "backing-filename" not in image, image
        phases = [phase["phase"] for phase in answer["phases"]]
        assert phases.index("disks") < phases.index("memory") < phases.index("guest runs"), phases
        restore = wait_until(lambda: (r := self.site.restore_of("vm"))["phase"] == "local" and r, 30, "it to be local")
        assert self.guest.cmd("verify", timeout_s=120).startswith("ok")
        self.is_protected("vm", answer)

    def is_protected(self, name, answer):
        self.site.wait_checkpoints(name, 2)
        first = next(c for c in self.site.checkpoints(name) if c["parent"] == answer["source"])
        assert first["data_bytes"] < 100 << 20, f"a full copy: {first}"

    def wait(self):
        place = self.site.directory + "/wait"
        os.mkdir(place)
        restore = self.site.ctl("restore", "vm", "--disk-dir", place, "--wait")["restore"]
        self.found(restore["qemu_pid"])
        assert restore["phase"] == "local" and restore["btn_ms"] is not None, restore
        assert not os.path.exists(self.site.run_dir + "/restore/vm/device-state"), "a copy stays in memory"
        self.is_restored(self.guest)

    def bandwidth(self):
        """A cap that is kept, for memory and for disks; what the guest asks for comes all the same."""
        self.restore("vm", "--bandwidth", "1M")
        time.sleep(3)
        agent = self.site.restore_of("vm")["agent"]
        assert agent["bandwidth_bytes_s"] == 1 << 20, agent
        # At most what the cap allows in all its time, and one run; this holds however slow the host is.
        allowed = (agent["elapsed_ms"] / 1000 + 1) * (1 << 20)
        assert 0 < agent["pages_prefetched"] * 4096 <= allowed, agent
        assert agent["state"] == "restoring", agent
        assert self.guest.cmd("verify", timeout_s=120).startswith("ok")
        # The disks come when all memory is there.
        assert tell_agent(f"{self.site.run_dir}/restore/vm/agent.json.sock", "bandwidth 0")["ok"]
        jobs = wait_until(lambda: self.guest.qmp("query-block-jobs"), 60, "the disks to be fetched")
        assert sum(job["speed"] for job in jobs) == 1 << 20, jobs

    def foreground(self):
        """Stays as long as QEMU does, and passes its output on."""
        place = self.site.directory + "/foreground"
        os.mkdir(place)
        log = open(place + "/log", "wb")
        process = subprocess.Popen(self.site.command("--json", "restore", "vm", "--disk-dir", place, "--foreground"),
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        restore = wait_until(lambda: next((r for r in self.site.ctl("restores", "vm")["restores"]
                                           if r["phase"] in ("running", "streaming", "local")), None), 60, "the guest to run")
        self.found(restore["qemu_pid"])
        self.is_restored(self.guest)
        assert process.poll() is None, "ended before QEMU"
        assert os.path.samefile(f"/proc/{restore['qemu_pid']}/fd/1", place + "/log"), "its output goes elsewhere"
        self.guest.kill()
        assert process.wait(30) == 0
        wait_until(lambda: not self.site.machine("vm")["connected"], 30, "ckptd to notice")

    def replace(self):
        place = self.site.directory + "/replace"
        os.mkdir(place)
        point = f"vm@{self.site.checkpoints('vm')[-1]['number']}"
        self.site.restore(self.guest, point, ["--disk-dir", place])
        image = self.site.restore_of("vm")["disks"][0]["overlay"]
        self.lose()
        assert "--replace" in self.refused(2, point, "--disk-dir", place)
        before = os.stat(image).st_ino
        self.site.restore(self.guest, point, ["--disk-dir", place, "--replace"])
        self.is_restored(self.guest)
        aside = [name for name in os.listdir(place) if ".old-" in name]
        assert len(aside) == 1 and os.stat(f"{place}/{aside[0]}").st_ino == before, "the earlier image is gone"
        assert os.stat(image).st_ino != before

    def generation_id(self):
        """New after each restore, under the same name too, and in the guest's memory."""
        seen = {GUID}
        for _ in range(2):
            self.restore("vm", "--mode", "full")  # a test cannot read what is missing
            guid = self.guest.qmp("query-vm-generation-id")["guid"]
            assert guid not in seen, f"generation ID {guid} again"
            seen.add(guid)
            assert uuid.UUID(guid).bytes_le in read_ram(self.guest, ["pc.ram"])["pc.ram"], "the guest cannot see it"
            self.lose()

    def clock(self):
        self.guest_agent.asked.clear()
        answer = self.restore("vm", "--clock", "now")
        assert answer["clock"] == "now" and self.guest_agent.asked == ["guest-sync-delimited", "guest-set-time"], self.guest_agent.asked
        self.lose()
        self.guest_agent.can_set = False
        answer = self.restore("vm", "--clock", "now")
        assert answer["clock"] == "continue", answer
        self.lose()
        self.guest_agent.asked.clear()
        answer = self.restore("vm")
        assert answer["clock"] == "continue" and self.guest_agent.asked == [], answer

    def copies(self):
        """Two machines from one point, at once, beside each other under other names."""
        others = []
        for name in ("left", "right"):
            directory = f"{self.site.directory}/{name}"
            os.mkdir(directory)
            other = Guest("linux-small", directory=directory, disks=self.guest.disks)
            other.words = other.command_line() + devices(self.guest_agent)
            others.append((name, other))
        started = [subprocess.Popen(self.site.command("--json", "restore", "vm", "--as", name, "--disk-dir", other.directory,
                                                      "--", *other.words), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
                   for name, other in others]
        for process, (name, other) in zip(started, others):
            answer = json.loads(process.communicate(timeout=120)[0])
            assert process.returncode == 0, answer
            self.site.adopt(answer["qemu_pid"])
            other.process, other.log = Machine(answer["qemu_pid"]), open(os.devnull)
            other.qmp_connection = Qmp(other.path("qmp.sock"))
            self.is_restored(other)
            assert other.cmd("verify", timeout_s=120).startswith("ok")
            self.is_protected(name, answer)
        for _, other in others:
            other.kill()


def main():
    with Site(interval="500ms") as site:
        agent = StandInGuestAgent(site.directory + "/ga.sock")
        with Guest("linux-small", directory=site.directory) as guest:
            plain = guest.command_line
            guest.command_line = lambda ports=(7,): plain(ports) + devices(agent)
            site.start()
            site.run(guest, "vm")
            guest.wait_ready()
            assert guest.cmd("load 32 1000 50") == "ok"
            site.wait_checkpoints("vm", 6)
            options = Options(site, guest, agent)
            options.lose()
            tests = [options.points_by_time, options.full_mode, options.wait, options.bandwidth, options.foreground,
                     options.replace, options.generation_id, options.clock, options.copies]
            chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
            print(f"1..{len(chosen)}", flush=True)
            failed = 0
            for number, test in enumerate(chosen, 1):
                try:
                    test()
                    print(f"ok {number} - {test.__name__}", flush=True)
                except Exception as error:  # a failed case must not keep the others from running
                    failed += 1
                    print(f"not ok {number} - {test.__name__}", flush=True)
                    print(f"# {type(error).__name__}: {error}"[:2000].replace("\n", "\n# "), flush=True)
                if guest.process:
                    options.lose()
            return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
