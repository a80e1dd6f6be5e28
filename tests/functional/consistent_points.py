#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""Application-consistent points of a plain QEMU: a Debian guest with the distribution's agent and a database that takes part. The guest is thawed
whatever ends meanwhile, and after a restore. Arguments: the cases to run."""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, alive, wait_until  # noqa: E402
from guest import Guest  # noqa: E402
from guest_agent import AgentSocket, agent_devices  # noqa: E402

FREEZE_LIMIT_S = 20  # an emulated guest on a busy host takes more than ten to write its database out


def helper_of(path):
    """The process that holds the guest frozen, told by its agent's socket."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == "guest-freeze" and path in words and alive(int(pid)):
            return int(pid)
    return None


class Points:
    def __init__(self, site, guest, agent):
        self.site, self.guest, self.agent = site, guest, agent
        self.nonce = self.heard("nonce", "[0-9a-f]{16}")

    def heard(self, word, pattern):
        """The guest's answer; what was asked before may be answered first."""
        return wait_until(lambda: re.fullmatch(pattern, text := self.guest.cmd(word, timeout_s=180)) and text, 200, f"the guest's {word}")

    def started(self):
        """A point that is being taken; the guest's hook takes its time."""
        return subprocess.Popen(self.site.command("--json", "checkpoint", "vm", "--consistent"), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def refused(self, code, *words):
        begun = time.monotonic()
        count = self.consistent()
        try:
            self.site.ctl("checkpoint", "vm", "--consistent")
        except CtlError as error:
            assert error.code == code and all(word in error.text for word in words), error
            assert self.consistent() == count, "a point was taken"
            return time.monotonic() - begun
        raise AssertionError(f"not refused: {words}")

    def consistent(self):
        return [p["number"] for p in self.site.checkpoints("vm") if p["application_consistent"]]

    def noted(self):
        return self.site.machine("vm")["frozen"]

    def is_thawed(self):
        wait_until(lambda: self.noted() is None, 90, f"vm to be thawed: {self.site.log_text()}")
        assert not self.agent.frozen() and self.agent.writes()
        assert not os.path.exists(self.site.run_dir + "/frozen/vm.json")
        assert helper_of(self.agent.path) is None

    def slow_hook(self, seconds):
        self.agent.shell(f"echo {seconds} >/run/fsfreeze-delay; rm -f /run/fsfreeze-log")

    def quick_hook(self):
        self.agent.shell("rm -f /run/fsfreeze-delay /run/fsfreeze-fail /run/fsfreeze-log")

    def on_demand(self):
        self.quick_hook()
        point = self.site.ctl("checkpoint", "vm", "--consistent", "--name", "clean")["checkpoint"]
        assert point["application_consistent"] and point["frozen"] and point["name"] == "clean", point
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()
        self.is_thawed()
        assert self.site.ctl("show", "vm@clean")["checkpoint"]["application_consistent"]
        rows = [row for row in self.site.ctl_text("list", "vm").splitlines() if "application-consistent" in row]
        assert any(f"vm@{point['number']} " in row for row in rows) and len(rows) == len(self.consistent()), rows
        assert "application-consistent" in self.site.ctl_text("show", "vm@clean")
        assert "newest application-consistent point" in self.site.ctl_text("status")
        assert self.site.machine("vm")["newest_consistent_ns"] == point["wall_clock_ns"]
        later = self.site.ctl("checkpoint", "vm")["checkpoint"]
        assert not later["application_consistent"] and not later["frozen"], later

    def hook_fails(self):
        self.quick_hook()
        self.agent.shell("touch /run/fsfreeze-fail")
        self.refused(11, "guest-fsfreeze-freeze")
        self.is_thawed()

    def agent_hangs(self):
        """It is looked for first: nobody who does not answer is asked to freeze."""
        self.quick_hook()
        self.agent.hang(30)
        took_s = self.refused(10, "no guest agent answers", "qemu-guest-agent must run")
        assert took_s < 15, took_s
        assert self.noted() is None
        wait_until(self.agent.answers, 60, "the agent to go on")
        self.is_thawed()

    def hook_is_slow(self):
        """It freezes long after it was given up: thawed then."""
        self.slow_hook(FREEZE_LIMIT_S + 8)
        self.refused(10, "guest-fsfreeze-freeze")
        assert "vm: its file systems are FROZEN" in self.site.ctl_text("status")
        self.refused(7, "may be frozen already")
        self.is_thawed()
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()

    def ckptd_killed(self):
        self.slow_hook(3)
        taking = self.started()
        wait_until(lambda: helper_of(self.agent.path), 30, "the helper")
        self.site.stop(signal.SIGKILL)
        assert os.path.exists(self.site.run_dir + "/frozen/vm.json")
        wait_until(lambda: helper_of(self.agent.path) is None, 60, "the helper to thaw the guest by itself")
        assert self.agent.hook_log() == ["freeze", "thaw"] and self.agent.writes()
        taking.communicate(timeout=30)
        assert taking.returncode != 0
        self.site.start(OPTIONS)
        self.is_thawed()
        self.site.wait_state("vm", "capturing")

    def helper_killed(self):
        self.slow_hook(3)
        taking = self.started()
        helper = wait_until(lambda: helper_of(self.agent.path), 30, "the helper")
        time.sleep(1.5)  # the agent has been asked, and freezes later
        os.kill(helper, signal.SIGKILL)
        _, text = taking.communicate(timeout=60)
        assert taking.returncode == 10 and "died" in text, text
        self.is_thawed()
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()

    def both_killed(self):
        self.slow_hook(3)
        taking = self.started()
        helper = wait_until(lambda: helper_of(self.agent.path), 30, "the helper")
        time.sleep(1.5)
        self.site.process.send_signal(signal.SIGSTOP)  # or it would start another
        os.kill(helper, signal.SIGKILL)
        self.site.stop(signal.SIGKILL)
        taking.communicate(timeout=30)
        wait_until(self.agent.frozen, 30, "the guest to be frozen with nobody to thaw it")
        self.site.start(OPTIONS)
        self.is_thawed()

    def undermined(self):
        """Somebody else thaws the guest before it is captured: as a helper that is a stand-in says."""
        stand_in = self.site.directory + "/stand-in"
        with open(stand_in, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\necho '{\"ok\": true, \"frozen\": 1}'\nread word\necho '{\"ok\": true, \"thawed\": 0}'\n")
        os.chmod(stand_in, 0o755)
        self.site.stop()
        os.environ["CKPT_GUEST_FREEZE"] = stand_in
        try:
            self.site.start(OPTIONS)
            self.site.wait_state("vm", "capturing")
            self.refused(11, "somebody else has thawed")
        finally:
            del os.environ["CKPT_GUEST_FREEZE"]
            self.site.stop()
            self.site.start(OPTIONS)
        self.site.wait_state("vm", "capturing")

    def policy(self):
        self.quick_hook()
        before = len(self.consistent())
        self.site.ctl("set", "vm", "consistent=10s")
        wait_until(lambda: len(self.consistent()) >= before + 2, 90, f"points by themselves: {self.site.log_text()}")
        assert "one every 10 s" in self.site.ctl_text("status")
        assert self.site.machine("vm")["consistent_trouble"] == ""
        self.agent.shell("touch /run/fsfreeze-fail")
        wait_until(lambda: "hook" in self.site.machine("vm")["consistent_trouble"], 60, f"what is wrong to be said: {self.site.log_text()}")
        assert "was not taken" in self.site.ctl_text("status")
        self.site.ctl("set", "vm", "--consistent", "none")
        self.quick_hook()
        self.is_thawed()

    def restored(self):
        """The guest of a point in which it is frozen goes on, and writes; with its clock set, too."""
        self.quick_hook()
        self.guest.cmd("load 16 200 20")
        number = self.site.ctl("checkpoint", "vm", "--consistent")["checkpoint"]["number"]
        for how in ([], ["--clock", "now"]):
            self.guest.kill()
            wait_until(lambda: not self.site.machine("vm")["connected"], 30, "ckptd to notice")
            place = f"{self.site.directory}/restored{len(how)}"
            os.mkdir(place)
            answer = self.site.restore(self.guest, f"vm@{number}", ["--disk-dir", place, *how])
            assert answer["clock"] == ("now" if how else "continue"), answer
            assert self.heard("nonce", "[0-9a-f]{16}") == self.nonce, "rebooted, not restored"
            self.is_thawed()
            assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()
            blocks = self.heard("written", "[0-9]+ [0-9]+").split()[1]
            wait_until(lambda: self.heard("written", "[0-9]+ [0-9]+").split()[1] != blocks, 60, "the load to write its disk")
            assert self.heard("verify", "ok .*")
            self.site.wait_state("vm", "capturing")
        assert self.site.ctl("checkpoint", "vm", "--consistent")["checkpoint"]["application_consistent"]

    def agent_missing(self):
        """Neither a channel nor an agent: an error that says what to add."""
        with Guest("linux-small") as other:
            self.site.run(other, "bare")
            other.wait_ready(300)
            self.site.wait_state("bare", "capturing")
            try:
                self.site.ctl("checkpoint", "bare", "--consistent")
                raise AssertionError("not refused")
            except CtlError as error:
                assert error.code == 1 and "virtserialport" in error.text, error
        try:
            self.site.ctl("checkpoint", "none", "--consistent")
            raise AssertionError("not refused")
        except CtlError as error:
            assert error.code == 1, error


OPTIONS = ("--freeze-limit", f"{FREEZE_LIMIT_S}s")


def main():
    with Site(interval="300ms") as site:
        path = site.directory + "/agent.sock"
        with Guest("debian", directory=site.directory, memory_mib=512) as guest:
            plain = guest.command_line
            guest.command_line = lambda ports=(7,): plain(ports) + agent_devices(path)
            site.start(OPTIONS)
            site.run(guest, "vm")
            guest.wait_ready(300)
            agent = AgentSocket(path)
            wait_until(agent.answers, 120, "the guest agent")
            wait_until(lambda: "ready" in agent.shell("/usr/lib/postgresql/*/bin/pg_isready -qh /run/postgresql && echo ready", 180), 300, "the database")
            site.wait_state("vm", "capturing", 300)
            points = Points(site, guest, agent)
            tests = [points.on_demand, points.hook_fails, points.agent_hangs, points.hook_is_slow, points.ckptd_killed, points.helper_killed,
                     points.both_killed, points.undermined, points.policy, points.restored, points.agent_missing]
            chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
            print(f"1..{len(chosen)}", flush=True)
            failed = 0
            for number, test in enumerate(chosen, 1):
                begun = time.monotonic()
                try:
                    test()
                    print(f"ok {number} - {test.__name__}", flush=True)
                except Exception as error:  # a failed case must not keep the others from running
                    failed += 1
                    print(f"not ok {number} - {test.__name__}", flush=True)
                    print(f"# {type(error).__name__}: {error}"[:3000].replace("\n", "\n# "), flush=True)
                print(f"# {time.monotonic() - begun:.0f} s", flush=True)
            return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
