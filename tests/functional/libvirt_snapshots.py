#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""Named points are snapshots of a stock libvirtd's: virsh lists them and goes back and forth between them, from running and from shut off; what
virsh deletes stays in the store; without a current snapshot, or without ckptd, a revert is refused and libvirtd lives."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import guest as guests  # noqa: E402
from ckpt_site import wait_until  # noqa: E402
from libvirt_site import Domain, LibvirtSite, needs_libvirt, refused  # noqa: E402

SOURCE = re.compile(r"<source file='([^']*)'")
HOLDER = "libvirt:snapshot"


def snapshots(site):
    return site.virsh("snapshot-list", "web1", "--name", "--topological").split()


def wait_snapshots(site, *names):
    wait_until(lambda: sorted(snapshots(site)) == sorted(names), 60, f"snapshots {names}: {site.log_text()}")


def current(site):
    return site.virsh("snapshot-current", "web1", "--name")


def number_of(domain, word):
    return int(wait_until(lambda: re.fullmatch("[0-9]+", heard := domain.cmd(word)) and heard, 30, f"the guest's {word}"))


def nonce_of(domain):
    return wait_until(lambda: re.fullmatch("[0-9a-f]{16}", heard := domain.cmd("nonce")) and heard, 30, "the guest's nonce")


def written(domain):
    """What the load has written so far, as the guest's memory alone has it."""
    return wait_until(lambda: re.fullmatch("[0-9]+ [0-9]+", heard := domain.cmd("written")) and heard, 30, "what the guest has written")


def rests(domain):
    before = written(domain)
    return before == written(domain)


def named(site, domain, name, resting=None):
    """A named point; the guest's load works in it, or rests, and has written this much."""
    counter = number_of(domain, "counter")
    number = site.ctl("checkpoint", "web1", "--name", name)["checkpoint"]["number"]
    return {"name": name, "number": number, "counter": counter, "resting": resting}


def reverted(site, domain, point, boot, *how):
    """The point's own memory and disk run, protected."""
    site.virsh("snapshot-revert", "web1", point["name"], *how)
    if "--paused" in how:
        assert site.state("web1") == "paused"
        site.virsh("resume", "web1")
    domain.started().wait_ready(300)
    assert site.state("web1") == "running" and current(site) == point["name"]
    assert nonce_of(domain) == boot, "booted, not reverted"
    assert number_of(domain, "counter") >= point["counter"], point
    if point["resting"]:
        assert written(domain) == point["resting"], "another point"
    else:
        wait_until(lambda: not rests(domain), 30, "the load to work, as in that point")
    answer = domain.cmd("verify", timeout_s=180)
    assert answer.startswith("ok"), answer
    assert site.wait_state("web1", "capturing")["base"] == f"web1@{point['number']}", site.machine("web1")
    restore = wait_until(lambda: (r := site.restore_of("web1"))["phase"] == "local" and r, 120, f"all to be local: {site.log_text()}")
    live = SOURCE.findall(site.virsh("dumpxml", "web1"))
    assert live == SOURCE.findall(site.virsh("dumpxml", "web1", "--inactive")) == [restore["disks"][0]["overlay"]], (live, restore)


def pins(site, point):
    return site.ctl("show", f"web1@{point['number']}")["checkpoint"]["pins"]


def shown(site, one, two):
    wait_snapshots(site, "one", "two")
    xml = site.virsh("snapshot-dumpxml", "web1", "two")
    assert "<parent>" in xml and "<name>one</name>" in xml and f"web1@{two['number']}" in xml, xml
    created = int(re.search(r"<creationTime>(\d+)<", xml).group(1))
    assert created == site.ctl("show", "web1@two")["checkpoint"]["wall_clock_ns"] // 10**9
    assert re.search(r"one\n.*\n?.*two", site.virsh("snapshot-list", "web1", "--tree"))
    info = site.virsh("snapshot-info", "web1", "two")
    assert re.search(r"Parent:\s+one", info) and re.search(r"State:\s+running", info) and re.search(r"Location:\s+external", info), info
    assert current(site) in ("one", "two") and pins(site, one) == pins(site, two) == [HOLDER]
    refused(lambda: site.ctl("remove", "web1@two"), "snapshot", "ckptctl name")
    refused(lambda: site.ctl("unpin", "web1@two", "--holder", HOLDER), "snapshot")


def noted(site):
    with open(site.directory + "/state/snapshots/web1/points.json", encoding="utf-8") as file:
        return file.read()


def deleted_by_virsh(site, two):
    """Without --metadata libvirt removes what it takes for the snapshot's: the point stays, and is no snapshot again by itself."""
    site.virsh("snapshot-delete", "web1", "two")
    wait_until(lambda: pins(site, two) == [], 60, f"the pin to go: {site.log_text()}")
    assert snapshots(site) == ["one"] and site.ctl("show", "web1@two")["checkpoint"]["name"] == "two"
    assert site.ctl("verify", f"web1@{two['number']}")["damage"] == []
    site.ctl("name", f"web1@{two['number']}")
    with_two = f'"number": {two["number"]},'
    wait_until(lambda: with_two not in noted(site), 60, "its deletion to be forgotten with its name")
    site.ctl("name", f"web1@{two['number']}", "two")
    wait_snapshots(site, "one", "two")


def nothing_current(site):
    """libvirtd would crash (its NULL current snapshot); and what ckptd alone can give is refused while it is away."""
    site.stop()
    libvirtd = site.libvirtd.pid
    site.virsh("snapshot-delete", "web1", current(site), "--metadata")
    assert snapshots(site) == ["three"]
    refused(lambda: site.virsh("snapshot-current", "web1", "--name"))
    refused(lambda: site.virsh("snapshot-revert", "web1", "three"), "no current snapshot")
    assert site.libvirtd.poll() is None and site.libvirtd.pid == libvirtd and site.state("web1") == "shut off"
    site.virsh("snapshot-current", "web1", "three")
    refused(lambda: site.virsh("snapshot-revert", "web1", "three"), "ckptd is not running")
    assert site.libvirtd.poll() is None and site.state("web1") == "shut off"
    # What has not come to be restored does not run without its memory.
    refused(lambda: site.virsh("start", "web1"), "ckpt")
    site.start(("--libvirt", site.uri))


def taken_away(site, one):
    """The current one without its name: it is no snapshot any more, another is current, and it may be removed."""
    assert current(site) == "one"
    site.ctl("name", f"web1@{one['number']}")
    wait_until(lambda: pins(site, one) == [], 60, f"the pin to go: {site.log_text()}")
    assert snapshots(site) == ["two"] and current(site) == "two"
    site.ctl("remove", f"web1@{one['number']}")


def undefined(site, points):
    """libvirt's own cure is enough, and no point goes with it."""
    site.virsh("destroy", "web1")
    site.wait_state("web1", "off")
    refused(lambda: site.virsh("undefine", "web1"), "snapshot")
    site.virsh("undefine", "web1", "--snapshots-metadata")
    wait_until(lambda: all(pins(site, point) == [] for point in points), 90, f"the pins to go: {site.log_text()}")
    assert not os.path.exists(site.directory + "/state/snapshots/web1")
    assert site.ctl("verify", "web1")["damage"] == []


needs_libvirt()
os.environ["CKPT_QEMU_IMG"] = guests.qemu_dir() + "/qemu-img"
with LibvirtSite() as shared:
    os.environ["CKPT_QEMU_LAUNCHER"] = shared.launcher
    shared.start_libvirtd()
    shared.start(("--libvirt", shared.uri))
    web1 = shared.define(Domain(shared, "web1", protection="interval='300ms' retention='all'", guest="linux-small"))
    shared.virsh("start", "web1")
    web1.started().wait_ready(300)
    nonce = nonce_of(web1)
    web1.cmd("load 16 200 20")
    shared.wait_state("web1", "capturing")
    first = named(shared, web1, "one")
    web1.cmd("stop")
    wait_until(lambda: rests(web1), 30, "the load to rest")
    second = named(shared, web1, "two", written(web1))
    shown(shared, first, second)
    print("shown ok", flush=True)
    reverted(shared, web1, first, nonce)
    print("back ok", flush=True)
    reverted(shared, web1, second, nonce, "--paused")
    print("forth ok", flush=True)
    shared.virsh("destroy", "web1")
    shared.wait_state("web1", "off")
    reverted(shared, web1, first, nonce)
    print("from shut off ok", flush=True)
    deleted_by_virsh(shared, second)
    print("deleted_by_virsh ok", flush=True)
    taken_away(shared, first)
    print("taken_away ok", flush=True)
    third = named(shared, web1, "three")
    wait_snapshots(shared, "two", "three")
    nothing_current(shared)
    reverted(shared, web1, third, nonce)
    print("nothing_current ok", flush=True)
    undefined(shared, (second, third))
    print("undefined ok", flush=True)
