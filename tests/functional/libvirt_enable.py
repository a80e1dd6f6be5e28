#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""Protection is an element in a domain's metadata: with virsh alone, on a stock libvirtd whose QEMUs run as its own user."""
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import alive, wait_until  # noqa: E402
from libvirt_site import Domain, LibvirtSite, needs_libvirt, refused  # noqa: E402


def start(site, domain):
    site.virsh("start", domain.domain)
    return domain.started()


def protected_from_its_start(site):
    domain = site.define(Domain(site, "web1", protection="interval='200ms' retention='all' required='yes'", guest="linux-small"))
    start(site, domain)
    machine = site.wait_state("web1", "capturing")
    assert machine["connected"] and machine["interval_ms"] == 200 and machine["retention"] == "all", machine
    assert machine["domain"] == domain.uuid, machine
    domain.wait_ready()
    nonce = domain.cmd("nonce")
    domain.cmd("load 16 200 20")
    site.wait_checkpoints("web1", 3)
    assert os.stat(f"/proc/{site.domain_pid('web1')}").st_uid != 0, "QEMU is meant to run as libvirt's user"
    assert domain.tainted() == [], domain.tainted()
    assert site.state("web1") == "running" and site.unprotected() == {}
    shown = site.ctl("show", "web1@latest")
    assert shown["config"]["domain"]["uuid"] == domain.uuid and "<name>web1</name>" in shown["config"]["domain"]["xml"]
    assert {o["class"] for o in shown["objects"]} == {"ram", "disk", "device_state", "config"}, shown["objects"]
    assert domain.cmd("verify").startswith("ok") and domain.cmd("nonce") == nonce
    print("protected as", os.stat(f"/proc/{site.domain_pid('web1')}").st_uid, machine["qemu_version"])
    return domain


def libvirtd_comes_back(site, domain):
    """The hook is called for each domain that runs: nothing happens to it."""
    pid = site.domain_pid("web1")
    site.stop_libvirtd()
    before = site.machine("web1")["epochs_total"]
    site.wait_checkpoints("web1", 2)
    site.start_libvirtd()
    site.wait_checkpoints("web1", 2)
    machine = site.machine("web1")
    assert machine["state"] == "capturing" and machine["epochs_total"] > before + 3 and machine["failures"] == 0, machine
    assert site.state("web1") == "running" and alive(pid) and site.domain_files() == [domain.uuid + ".json"]


def ckptd_comes_back(site):
    site.stop(signal.SIGKILL)
    kept = None
    site.start()
    kept = len(site.checkpoints("web1"))
    machine = site.wait_state("web1", "capturing")
    site.wait_checkpoints("web1", 2)
    assert len(site.checkpoints("web1")) > kept and machine["interval_ms"] == 200


def its_xml_is_the_truth(site):
    """Nobody else changes how a domain that runs is protected."""
    for arguments in (("set", "web1", "interval=5s"),):
        refused(lambda a=arguments: site.ctl_text(*a), "its XML says", "virsh metadata")
    assert site.machine("web1")["interval_ms"] == 200


def killed(site, domain):
    """The host's QEMU is lost: the checkpoints are not."""
    pid = site.domain_pid("web1")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: site.state("web1") == "shut off", 60, "libvirt to notice")
    machine = site.wait_state("web1", "off")
    assert site.domain_files() == [] and "does not run" in machine["reason"], machine
    kept = site.checkpoints("web1")
    assert kept and site.ctl("verify", "web1")["damage"] == []
    # A new life under the same name and policy goes on with the same machine.
    start(site, domain)
    site.wait_state("web1", "capturing")
    site.wait_checkpoints("web1", 1)
    assert {c["number"] for c in kept} < {c["number"] for c in site.checkpoints("web1")}
    site.virsh("destroy", "web1")
    site.wait_state("web1", "off")


def ckptd_comes_later(site):
    domain = site.define(Domain(site, "late", protection="interval='100ms'"))
    site.stop()
    start(site, domain)
    domain.wait_ready()
    site.start()
    site.wait_state("late", "capturing", 30)
    site.wait_checkpoints("late", 2)
    assert domain.tainted() == []
    site.virsh("destroy", "late")


def refused_elements(site):
    """Wrong, newer, or against itself: the domain runs, and it is said; with required='yes' it does not run, and libvirt says why."""
    future = "<ckpt:protection xmlns:ckpt='urn:x-ckpt:domain:2' {}/>"
    cases = {"wrong": ("interval='soon' {}", "not a duration"), "future": (future, "install a newer one"), "odd name": ("{}", "machine='NAME'")}
    for name, (element, words) in cases.items():
        domain = site.define(Domain(site, name, protection=element.format("required='no'")))
        start(site, domain)
        wait_until(lambda n=name, w=words: w in site.unprotected().get(n, ""), 30, f"{name} to be reported: {site.ctl('status')}")
        text = site.ctl_text("status")
        assert f"domain {name} runs UNPROTECTED: " in text and words in text, text
        assert f"'{name}' runs UNPROTECTED: " in site.log_text() and site.state(name) == "running"
        site.virsh("destroy", name)
        wait_until(lambda: site.unprotected() == {}, 30, "the complaint to end")
        domain.protection = element.format("required='yes'")
        site.define(domain)
        refused(lambda n=name: site.virsh("start", n), "must not start", words)
        assert site.state(name) == "shut off" and site.unprotected() == {} and site.domain_files() == []
        print(f"{name}: {words}")


def stock_emulator(site):
    """With libvirt's own QEMU the element is a contradiction, and without the element nothing of ours is there."""
    stock = "/usr/bin/qemu-system-x86_64"
    if not os.access(stock, os.X_OK):
        print("no stock QEMU here: not tried")
        return
    domain = Domain(site, "stock")
    domain.emulator = stock
    site.define(domain)
    start(site, domain)
    wait_until(lambda: "<emulator>" in site.unprotected().get("stock", ""), 30, "the contradiction to be reported")
    site.virsh("destroy", "stock")


def cannot_be_captured(site):
    """A device that cannot be: the domain runs, and ckptd is told its name; with required='yes' QEMU refuses to start."""
    domain = Domain(site, "shared", protection="interval='100ms'")
    plain, memory = domain.xml, "ckpt-" + domain.uuid
    domain.xml = lambda: plain().replace("<devices>", f"<devices><shmem name='{memory}'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>")
    site.define(domain)
    try:
        start(site, domain)
        machine = site.wait_state("shared", "suspended")
        assert "'ivshmem'" in machine["reason"] and site.state("shared") == "running", machine
        site.virsh("destroy", "shared")
        domain.protection += " required='yes'"
        site.define(domain)
        refused(lambda: site.virsh("start", "shared"), "'ivshmem'", "cannot be protected")
        assert site.state("shared") == "shut off" and site.domain_files() == []
    finally:
        if os.path.exists("/dev/shm/" + memory):
            os.unlink("/dev/shm/" + memory)


def without_an_element(site):
    """The launcher alone protects nothing; an element that comes at the next start does."""
    domain = site.define(Domain(site, "plain", protection=None))
    start(site, domain)
    domain.wait_ready()
    assert "plain" not in [m["name"] for m in site.ctl("status")["machines"]] and domain.uuid not in site.ctl_text("status")
    site.virsh("destroy", "plain")
    domain.protection = ""
    site.define(domain)
    start(site, domain)
    site.wait_state("plain", "capturing")
    site.virsh("destroy", "plain")


def another_domain_of_its_name(site):
    """The history of one domain is not continued by another: that is said, and what to do."""
    site.virsh("undefine", "plain")
    domain = Domain(site, "plain again", protection="machine='plain'")
    site.define(domain)
    start(site, domain)
    machine = wait_until(lambda: (m := site.machine("plain"))["reason"] and m, 30, "the refusal")
    assert machine["state"] == "waiting" and not machine["connected"], machine
    assert all(word in machine["reason"] for word in ("UUID", domain.uuid, "ckptctl forget plain")), machine
    refused(lambda: site.ctl_text("forget", "plain"), "shut it down")
    refused(lambda: site.ctl_text("restore", "plain", "--", "qemu-system-x86_64"), "shut it down", "--as NEWNAME")
    site.virsh("destroy", "plain again")
    site.wait_state("plain", "off")
    site.ctl("forget", "plain")
    start(site, domain)
    site.wait_state("plain", "capturing")
    # The name is taken as long as the first of two runs.
    other = site.define(Domain(site, "twin", protection="machine='plain'"))
    start(site, other)
    wait_until(lambda: "another machine named 'plain'" in site.unprotected().get("twin", ""), 30, "the second to be reported")
    site.virsh("destroy", "plain again")
    wait_until(lambda: site.unprotected() == {}, 30, "the name to be free")
    site.virsh("destroy", "twin")


def saved_and_restored(site):
    """libvirt's own save and restore of a protected domain: the machine goes on, and so does its protection."""
    domain = site.define(Domain(site, "saved", protection="interval='100ms'"))
    start(site, domain)
    site.wait_state("saved", "capturing")
    domain.wait_ready()
    nonce, image = domain.cmd("nonce"), domain.path("saved.save")
    site.virsh("save", "saved", image)
    site.wait_state("saved", "off")
    site.virsh("restore", image)
    domain.started()
    site.wait_state("saved", "capturing")
    domain.wait_ready()
    assert domain.cmd("nonce") == nonce
    site.virsh("destroy", "saved")


def capabilities(site):
    """What libvirt asks an emulator goes through the launcher."""
    answer = site.virsh("domcapabilities", "--emulatorbin", site.launcher, "--virttype", "qemu", "--arch", "x86_64")
    assert site.launcher in answer and "<machine>pc-i440fx-10.0</machine>" in answer, answer[:500]
    version = subprocess.run([site.launcher, "--version"], capture_output=True, text=True, check=False)
    assert version.returncode == 127 and "install ckpt's QEMU" in version.stderr, "outside the namespace there is none"


needs_libvirt()
with LibvirtSite(interval="1s") as shared:
    shared.start()
    shared.start_libvirtd()
    capabilities(shared)
    web1 = protected_from_its_start(shared)
    libvirtd_comes_back(shared, web1)
    ckptd_comes_back(shared)
    its_xml_is_the_truth(shared)
    killed(shared, web1)
    for case in (ckptd_comes_later, refused_elements, stock_emulator, cannot_be_captured, without_an_element, another_domain_of_its_name,
                 saved_and_restored):
        case(shared)
        print(case.__name__, "ok", flush=True)
    assert json.dumps(shared.ctl("status")["unprotected"]) == "[]"
