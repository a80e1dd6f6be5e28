#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""Application-consistent points of a stock libvirtd's domain: frozen and thawed through libvirt, which has the agent's channel; on demand and by
the element's attribute; the domain comes back thawed, however it is restored. Arguments: the cases to run, in their order."""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import guest as guests  # noqa: E402
from ckpt_site import alive, wait_until  # noqa: E402
from guest_agent import AgentOfDomain  # noqa: E402
from libvirt_site import Domain, LibvirtSite, command_line, needs_libvirt, refused  # noqa: E402


def helper_of(site, uuid):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = command_line(int(pid)).split("\0")
        if os.path.basename(words[0]) == "libvirt-bridge" and site.uri in words and "freeze" in words and uuid in words and alive(int(pid)):
            return int(pid)
    return None


def options(site):
    # An emulated guest on a busy host takes more than ten seconds to write its database out.
    return ("--libvirt", site.uri, "--freeze-limit", "20s")


class Points:
    def __init__(self, site, domain):
        self.site, self.domain = site, domain
        self.agent = AgentOfDomain(site, "web1")
        self.nonce = self.nonce_of(domain)

    @staticmethod
    def nonce_of(domain):
        return wait_until(lambda: re.fullmatch("[0-9a-f]{16}", heard := domain.cmd("nonce", timeout_s=60)) and heard, 90, "the guest's nonce")

    def is_thawed(self, name="web1", agent=None):
        agent = agent or self.agent
        wait_until(lambda: self.site.machine(name)["frozen"] is None, 120, f"{name} to be thawed: {self.site.log_text()}")
        assert not agent.frozen() and agent.writes()

    def slow_hook(self, seconds):
        self.agent.shell(f"echo {seconds} >/run/fsfreeze-delay; rm -f /run/fsfreeze-log")

    def quick_hook(self):
        self.agent.shell("rm -f /run/fsfreeze-delay /run/fsfreeze-log")

    def started(self):
        return subprocess.Popen(self.site.command("--json", "checkpoint", "web1", "--consistent"), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def on_demand(self):
        self.quick_hook()
        point = self.site.ctl("checkpoint", "web1", "--consistent", "--name", "clean")["checkpoint"]
        assert point["application_consistent"] and point["frozen"], point
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()
        self.is_thawed()
        wait_until(lambda: "clean" in self.site.virsh("snapshot-list", "web1", "--name"), 60, f"the snapshot: {self.site.log_text()}")
        xml = self.site.virsh("snapshot-dumpxml", "web1", "clean")
        assert f"<description>application-consistent checkpoint web1@{point['number']} of ckpt" in xml, xml

    def agent_hangs(self):
        self.agent.hang(30)
        refused(lambda: self.site.ctl("checkpoint", "web1", "--consistent"), "exit 10", "qemu-guest-agent must run")
        assert self.site.machine("web1")["frozen"] is None
        wait_until(self.agent.answers, 90, "the agent to go on")
        self.is_thawed()

    def helper_killed(self):
        self.slow_hook(3)
        taking = self.started()
        helper = wait_until(lambda: helper_of(self.site, self.domain.uuid), 30, "the helper")
        time.sleep(1.5)
        os.kill(helper, signal.SIGKILL)
        _, text = taking.communicate(timeout=90)
        assert taking.returncode == 10 and "died" in text, text
        self.is_thawed()
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()

    def ckptd_killed(self):
        self.slow_hook(3)
        taking = self.started()
        wait_until(lambda: helper_of(self.site, self.domain.uuid), 30, "the helper")
        self.site.stop(signal.SIGKILL)
        wait_until(lambda: helper_of(self.site, self.domain.uuid) is None, 90, "the helper to thaw the guest by itself")
        assert self.agent.hook_log() == ["freeze", "thaw"] and self.agent.writes()
        taking.communicate(timeout=30)
        self.site.start(options(self.site))
        self.is_thawed()
        self.site.wait_state("web1", "capturing")

    def attribute(self):
        self.quick_hook()
        before = len([p for p in self.site.checkpoints("web1") if p["application_consistent"]])
        self.site.ctl("protect", "web1", "--consistent", "10s")
        wait_until(lambda: self.site.machine("web1")["consistent_ms"] == 10_000, 30, f"the policy: {self.site.log_text()}")
        assert "consistent=" in self.site.virsh("metadata", "web1", "urn:x-ckpt:domain:1")
        wait_until(lambda: len([p for p in self.site.checkpoints("web1") if p["application_consistent"]]) > before, 60,
                   f"a point by itself: {self.site.log_text()}")
        self.site.ctl("protect", "web1", "--consistent", "none")
        wait_until(lambda: self.site.machine("web1")["consistent_ms"] == 0, 30, "the policy to end")
        self.is_thawed()

    def goes_on(self):
        """The guest of the point, thawed; its hook has seen both."""
        self.domain.started().wait_ready(300)
        assert self.nonce_of(self.domain) == self.nonce, "booted, not restored"
        self.is_thawed()
        assert self.agent.hook_log() == ["freeze", "thaw"], self.agent.hook_log()
        assert wait_until(lambda: self.domain.cmd("verify", timeout_s=180).startswith("ok"), 180, "memory and disk to be verified")
        self.site.wait_state("web1", "capturing")
        wait_until(lambda: self.site.restore_of("web1")["phase"] == "local", 180, f"all to be local: {self.site.log_text()}")

    def reverted(self):
        self.site.virsh("snapshot-revert", "web1", "clean")
        self.goes_on()

    def restored(self):
        image = self.site.directory + "/web1.save"
        self.site.ctl("image", "web1@clean", "-o", image)
        self.site.virsh("destroy", "web1")
        self.site.wait_state("web1", "off")
        self.site.virsh("restore", image, "--paused")
        time.sleep(3)
        assert self.site.machine("web1")["frozen"], "paused: nobody can have thawed it"
        self.site.virsh("resume", "web1")
        self.goes_on()

    def cloned(self):
        self.site.ctl("clone", "web1@clean", "web2", timeout_s=180)
        agent = AgentOfDomain(self.site, "web2")
        wait_until(agent.answers, 120, "the clone's agent")
        self.is_thawed("web2", agent)
        assert agent.hook_log() == ["freeze", "thaw"], agent.hook_log()
        self.is_thawed()


def main():
    needs_libvirt()
    os.environ["CKPT_QEMU_IMG"] = guests.qemu_dir() + "/qemu-img"
    with LibvirtSite() as site:
        os.environ["CKPT_QEMU_LAUNCHER"] = site.launcher
        site.start_libvirtd()
        site.start(options(site))
        web1 = site.define(Domain(site, "web1", protection="interval='300ms' retention='all'", guest="debian"))
        site.virsh("start", "web1")
        web1.started().wait_ready(300)
        points = Points(site, web1)
        wait_until(points.agent.answers, 120, "the guest agent")
        wait_until(lambda: "ready" in points.agent.shell("/usr/lib/postgresql/*/bin/pg_isready -qh /run/postgresql && echo ready", 180), 300, "the database")
        web1.cmd("load 16 200 20")
        site.wait_state("web1", "capturing", 300)
        tests = [points.on_demand, points.agent_hangs, points.helper_killed, points.ckptd_killed, points.attribute, points.reverted,
                 points.restored, points.cloned]
        for test in (t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]):
            test()
            print(f"{test.__name__} ok", flush=True)


if __name__ == "__main__":
    main()
