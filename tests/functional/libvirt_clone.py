#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""A checkpoint of a libvirt domain runs as another domain beside it: with the original's RAM and disk of that point and none of its identity,
protected by itself without a full copy, and restorable when the original and all its checkpoints are gone. What cannot be is refused or undone."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import guest as guests  # noqa: E402
from ckpt_site import CtlError, alive, wait_until  # noqa: E402
from libvirt_site import Domain, LibvirtSite, needs_libvirt, refused  # noqa: E402

NOT_FOUND, EXISTS, INVALID, REFUSED = 1, 2, 3, 11
IDENTITY = {"uuid": r"<uuid>([^<]*)</uuid>", "generation": r"<genid>([^<]*)</genid>", "mac": r"<mac address='([^']*)'",
            "console": r"<source path='([^']*console.log)'", "line": r"<source mode='bind' path='([^']*line.sock)'",
            "disk": r"<source file='([^']*)'"}


class Original(Domain):
    """With what a clone must have of its own."""

    def xml(self):
        return super().xml().replace("<memory", "<genid/><memory", 1).replace(
            "</disk>", "</disk><interface type='user'><mac address='52:54:00:0a:0b:0c'/><model type='virtio'/></interface>", 1)


class Copy(Domain):
    """A clone: its lines are where ckptctl has put them."""

    def __init__(self, original, answer):
        super().__init__(original.site, answer["domain"], guest="linux-small", disks=[])
        self.uuid = answer["uuid"]
        os.symlink(original.path(f"{self.domain}.line.sock"), self.path("line.sock"))


def identity(site, name, *how):
    xml = site.virsh("dumpxml", name, *how)
    return {what: re.search(pattern, xml).group(1) for what, pattern in IDENTITY.items()}


def nonce_of(domain):
    """What answers an earlier question, late, is no nonce."""
    return wait_until(lambda: re.fullmatch("[0-9a-f]{16}", heard := domain.cmd("nonce", timeout_s=60)) and heard, 60, "the guest's nonce")


def verified(domain):
    """Each page and each block is what this guest's own RAM says: one write of another machine's would show."""
    answer = domain.cmd("verify", timeout_s=180)
    assert answer.startswith("ok"), answer


def everything(site):
    return site.virsh("list", "--all", "--name"), sorted(os.listdir(site.directory + "/web1")), sorted(os.listdir(site.run_dir + "/restore"))


def fails(site, code, words, *arguments):
    """With nothing touched."""
    before = everything(site)
    try:
        site.ctl("clone", *arguments)
    except CtlError as error:
        assert error.code == code and words in error.text, error
    else:
        raise AssertionError(f"not refused: {arguments}")
    assert everything(site) == before, (everything(site), before)
    print(f"refused: {' '.join(arguments)}", flush=True)


def refusals(site):
    fails(site, EXISTS, "libvirt has a domain 'web1'", "web1", "web1")
    fails(site, NOT_FOUND, "999999", "web1@999999", "web2")
    fails(site, NOT_FOUND, "nobody", "nobody", "web2")
    fails(site, INVALID, "a/b", "web1", "a/b")
    site.ctl("protect", "known")
    fails(site, EXISTS, "knows a machine 'known'", "web1", "known")
    site.ctl("unprotect", "known")
    site.ctl("forget", "known")


def beside(site, web1, nonce):
    """Both run at once, and neither is touched by the other."""
    counter = int(web1.cmd("counter"))
    point = site.ctl("checkpoint", "web1")["checkpoint"]["number"]
    pid = site.domain_pid("web1")
    answer = site.ctl("clone", f"web1@{point}", "web2")
    assert answer["source"] == f"web1@{point}" and answer["state"] == "running" and answer["persistent"] and not answer["connected"], answer
    assert site.state("web1") == site.state("web2") == "running" and alive(pid) and site.domain_pid("web1") == pid
    web2 = Copy(web1, answer).started()
    web2.wait_ready(300)
    assert nonce_of(web2) == nonce, "booted, not restored"
    assert int(web2.cmd("counter")) >= counter
    ours, theirs = identity(site, "web2"), identity(site, "web1")
    for what in IDENTITY:
        assert ours[what] != theirs[what], (what, ours, theirs)
    assert ours["uuid"] == answer["uuid"] and [ours["mac"]] == answer["macs"] and [ours["disk"]] == answer["disks"], (ours, answer)
    assert ours["disk"] == web1.path(f"web2.vda.{point}.qcow2")
    generations = [site.virsh("qemu-monitor-command", name, "--hmp", "info vm-generation-id") for name in ("web1", "web2")]
    assert generations == [theirs["generation"], ours["generation"]], (generations, ours, theirs)
    assert "down" in site.virsh("domif-getlink", "web2", ours["mac"]) and "up" in site.virsh("domif-getlink", "web1", theirs["mac"])
    # Apart from here on.
    assert web2.cmd("load 16 300 30") == "ok"
    web1.cmd("load 24 200 20")
    wait_until(lambda: site.restore_of("web2")["phase"] == "local", 120, f"all to be local: {site.log_text()}")
    for domain in (web1, web2):
        verified(domain)
    assert nonce_of(web1) == nonce_of(web2) == nonce
    return web2, point


def protected(site, web1, web2, point):
    """A machine of its own, from its first checkpoint on; nothing was copied again."""
    site.wait_state("web2", "capturing")
    assert site.machine("web2")["base"] == f"web1@{point}" and site.machine("web2")["domain"] == web2.uuid
    site.wait_checkpoints("web2", 2)
    first = site.checkpoints("web2")[0]
    assert first["parent"] == f"web1@{point}" and first["data_bytes"] < 96 << 20, first
    assert site.ctl("show", f"web2@{first['number']}")["config"]["domain"]["uuid"] == web2.uuid
    defined = identity(site, "web2", "--inactive")
    assert defined["uuid"] == web2.uuid and defined["disk"] == web1.path(f"web2.vda.{point}.qcow2"), defined
    assert "urn:x-ckpt:restore" not in site.virsh("dumpxml", "web2", "--inactive")
    assert not [name for name in os.listdir(site.run_dir + "/libvirt") if name.endswith(".save")]
    assert site.ctl("show", f"web1@{point}")["checkpoint"]["pins"] == []


def transient(site):
    """One that does not run yet, is not defined, and stays plugged in."""
    answer = site.ctl("clone", "web1", "web3", "--paused", "--transient", "--connected")
    assert answer["state"] == "paused" and not answer["persistent"] and answer["connected"], answer
    assert site.state("web3") == "paused" and "no" in re.search(r"Persistent:\s*(\w+)", site.virsh("dominfo", "web3")).group(1)
    assert "up" in site.virsh("domif-getlink", "web3", answer["macs"][0])
    site.virsh("destroy", "web3")
    refused(lambda: site.virsh("dominfo", "web3"))
    wait_until(lambda: site.restore_of("web3")["phase"] in ("ended", "failed"), 30, "its restore to end")
    fails(site, EXISTS, "knows a machine 'web3'", "web2", "web3")
    site.ctl("forget", "web3")


def undone(site, web1):
    """What fails on the way leaves neither domain nor machine."""
    kernel = web1.files["kernel"]
    for what, gone in (("no room for its disks", web1.directory), ("its QEMU does not start", kernel)):
        os.rename(gone, gone + ".away")
        try:
            refused(lambda: site.ctl("clone", "web1", "web4"), "'web4' is not made from web1@")
        finally:
            os.rename(gone + ".away", gone)
        refused(lambda: site.virsh("dominfo", "web4"))
        refused(lambda: site.ctl("status", "web4"), "web4")
        print(f"undone: {what}", flush=True)
    assert site.state("web1") == site.state("web2") == "running"


def rewritten(file, change):
    """A save image whose XML was edited, by someone who knows how."""
    with open(file, "rb") as opened:
        content = opened.read()
    size = int.from_bytes(content[20:24], "little")
    xml = change(content[92:92 + size].rstrip(b"\0").decode()).encode()
    assert len(xml) < size
    with open(file + ".edited", "wb") as out:
        out.write(content[:92] + xml.ljust(size, b"\0") + content[92 + size:])
    return file + ".edited"


def slips(site, web1):
    """Another domain's memory comes only to what says that it is a clone, and is new."""
    file = site.ctl("image", "web1", "-o", web1.path("point.save"))["file"]
    other = "11111111-2222-4333-8444-555555555555"

    def renamed(xml):
        return xml.replace("<name>web1", "<name>web5").replace(f"<uuid>{web1.uuid}", f"<uuid>{other}")

    def clone_of(uuid, xml):
        return xml.replace(' checkpoint="', f' clone-of="{uuid}" checkpoint="')

    for words, change in (("'ckptctl clone' makes another machine", renamed),
                          (f"not of {other}", lambda xml: clone_of(other, renamed(xml))),
                          ("is a machine already", lambda xml: clone_of(web1.uuid, renamed(xml)).replace(
                              "urn:x-ckpt:domain:1\"", "urn:x-ckpt:domain:1\" machine=\"known\""))):
        if "already" in words:
            site.ctl("protect", "known")
        refused(lambda: site.virsh("restore", rewritten(file, change)), words)
        refused(lambda: site.virsh("dominfo", "web5"))
        print(f"refused: {words}", flush=True)
    site.ctl("unprotect", "known")
    site.ctl("forget", "known")


def alone(site, web1, web2, nonce):
    """The original is gone, and all its checkpoints; the clone is lost, and runs again."""
    site.virsh("destroy", "web1")
    site.virsh("undefine", "web1")
    site.wait_state("web1", "off")
    wait_until(lambda: not [c for c in site.checkpoints("web1") if c["pins"]], 30, "pins to go")
    site.ctl("forget", "web1")
    counter, before = int(web2.cmd("counter")), identity(site, "web2")
    number = site.ctl("checkpoint", "web2")["checkpoint"]["number"]
    os.kill(site.domain_pid("web2"), signal.SIGKILL)
    wait_until(lambda: site.state("web2") == "shut off" and site.machine("web2")["state"] == "off", 60, "libvirt to notice")
    file = site.ctl("image", f"web2@{number}", "-o", web2.path("web2.save"))["file"]
    site.virsh("restore", file)
    web2.started().wait_ready(300)
    assert nonce_of(web2) == nonce and int(web2.cmd("counter")) >= counter
    verified(web2)
    now = identity(site, "web2")
    assert now["uuid"] == before["uuid"] and now["mac"] == before["mac"] and now["generation"] != before["generation"], (before, now)
    assert site.wait_state("web2", "capturing")["base"] == f"web2@{number}"


needs_libvirt()
os.environ["CKPT_QEMU_IMG"] = guests.qemu_dir() + "/qemu-img"
with LibvirtSite() as shared:
    os.environ["CKPT_QEMU_LAUNCHER"] = shared.launcher
    shared.start_libvirtd()
    shared.start(("--libvirt", shared.uri))
    web1 = shared.define(Original(shared, "web1", protection="interval='300ms' retention='all'", guest="linux-small"))
    shared.virsh("start", "web1")
    web1.started().wait_ready(300)
    boot = nonce_of(web1)
    web1.cmd("load 16 200 20")
    shared.wait_state("web1", "capturing")
    shared.wait_checkpoints("web1", 2)
    refusals(shared)
    copy, base = beside(shared, web1, boot)
    print("beside ok", flush=True)
    protected(shared, web1, copy, base)
    print("protected ok", flush=True)
    transient(shared)
    print("transient ok", flush=True)
    undone(shared, web1)
    slips(shared, web1)
    print("slips ok", flush=True)
    alone(shared, web1, copy, boot)
    print("alone ok", flush=True)
