#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""A kept checkpoint is a save image: with a stock libvirtd and virsh alone, a lost domain runs again from the newest point or an earlier
one, protected from its first second; what cannot be restored is refused, and nothing is touched."""
import os
import re
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import guest as guests  # noqa: E402
from ckpt_site import alive, wait_until  # noqa: E402
from libvirt_site import Domain, LibvirtSite, command_line, needs_libvirt, refused  # noqa: E402

OVERLAY = re.compile(r"<source file='([^']*\.qcow2)'")


def image(site, domain, point="latest"):
    """A save image of the point, and its number."""
    made = site.ctl("image", f"{domain.domain}@{point}", "-o", domain.path(f"{point}.save"))
    assert stat.S_IMODE(os.stat(made["file"]).st_mode) == 0o600 and made["size_bytes"] == os.path.getsize(made["file"]) < 1 << 20, made
    return made["file"], int(made["checkpoint"].split("@")[1])


def lost(site, domain):
    os.kill(site.domain_pid(domain.domain), signal.SIGKILL)
    wait_until(lambda: site.state(domain.domain) == "shut off" and site.machine(domain.domain)["state"] == "off", 60, "libvirt to notice")


def leftovers(site, name):
    """What a restore has started and left in files."""
    mine = [command_line(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()]
    return [line for line in mine if f"{site.run_dir}/restore/{name}/" in line or ("nbdkit" in line and site.store in line)], \
        [name for name in os.listdir(site.run_dir + "/libvirt") if name.endswith((".prepared", ".restore"))]


def disk_of(site, name, *how):
    return OVERLAY.findall(site.virsh("dumpxml", name, *how))


def nonce_of(domain):
    """What answers an earlier question, late, is no nonce."""
    return wait_until(lambda: re.fullmatch("[0-9a-f]{16}", heard := domain.cmd("nonce")) and heard, 30, "the guest's nonce")


def judge(domain, nonce, counter):
    domain.started().wait_ready(300)
    assert nonce_of(domain) == nonce, "booted, not restored"
    now = int(domain.cmd("counter"))
    assert now >= counter, (counter, now)
    answer = domain.cmd("verify", timeout_s=180)
    assert answer.startswith("ok"), answer


def newest(site, domain, nonce):
    """The domain is lost, and runs again from its newest checkpoint; ckptd goes on from there."""
    counter = int(domain.cmd("counter"))
    site.wait_checkpoints("web1", 2)
    file, number = image(site, domain)
    lost(site, domain)
    point = site.checkpoints("web1")[-1]["number"]
    assert point >= number
    site.virsh("restore", file)
    assert site.state("web1") == "running"
    judge(domain, nonce, counter)
    machine = site.wait_state("web1", "capturing")
    assert machine["base"] == f"web1@{number}", machine
    restored = wait_until(lambda: (r := site.restore_of("web1"))["phase"] == "local" and r, 90, f"all to be local: {site.log_text()}")
    site.wait_checkpoints("web1", 1)
    after = [c for c in site.checkpoints("web1") if c["number"] > point]
    assert after[0]["parent"] == f"web1@{number}", after[0]
    # Memory has 256 MiB: what was not touched since was not copied again.
    assert after[0]["data_bytes"] < 96 << 20, after[0]
    xml = site.virsh("dumpxml", "web1")
    assert "urn:x-ckpt:restore" not in xml and "urn:x-ckpt:domain" in xml and "nbd" not in xml, xml
    overlay = restored["disks"][0]["overlay"]
    assert disk_of(site, "web1") == disk_of(site, "web1", "--inactive") == [overlay], (overlay, xml)
    wait_until(lambda: leftovers(site, "web1")[0] == [], 30, "agent and disk servers to end")
    assert site.ctl("show", f"web1@{number}")["checkpoint"]["pins"] == []
    # Twice: libvirt's domain is there.
    pid = site.domain_pid("web1")
    refused(lambda: site.virsh("restore", file), "web1", "runs")
    assert alive(pid) and site.state("web1") == "running"
    site.wait_checkpoints("web1", 1)
    return file


def earlier(site, domain, nonce):
    """An earlier point, stopped by --paused; then a real save and restore of the restored machine."""
    first = int(domain.cmd("counter"))
    point = site.ctl("checkpoint", "web1", "--name", "before")["checkpoint"]["number"]
    site.wait_checkpoints("web1", 3)
    site.virsh("destroy", "web1")
    site.wait_state("web1", "off")
    file, number = image(site, domain, "before")
    assert number == point
    site.virsh("restore", "--paused", file)
    assert site.state("web1") == "paused"
    site.virsh("resume", "web1")
    judge(domain, nonce, first)
    assert site.wait_state("web1", "capturing")["base"] == f"web1@{point}"
    wait_until(lambda: site.restore_of("web1")["phase"] == "local", 90, f"all to be local: {site.log_text()}")
    saved = domain.path("plain.save")
    site.virsh("save", "web1", saved)
    site.wait_state("web1", "off")
    site.virsh("restore", saved)
    judge(domain, nonce, first)
    site.virsh("destroy", "web1")
    site.wait_state("web1", "off")


def nothing_touched(site, before):
    assert site.state("web1") == "shut off" and leftovers(site, "web1") == ([], []), leftovers(site, "web1")
    assert sorted(os.listdir(os.path.dirname(before))) == nothing_touched.files


def refusals(site, domain, file):
    """Each before anything is touched, and virsh says why."""
    nothing_touched.files = sorted(os.listdir(domain.directory))
    with open(file, "rb") as opened:
        head = opened.read(92)
        xml = opened.read(int.from_bytes(head[20:24], "little")).rstrip(b"\0").decode()
    number = int(re.search(r'checkpoint="(\d+)"', xml).group(1))
    other = domain.path("other.xml")
    nothing_touched.files = sorted(os.listdir(domain.directory) + ["other.xml"])
    edits = {
        "no number": (xml.replace(f'checkpoint="{number}"', 'checkpoint="-1"'), "no number"),
        "another point": (xml.replace(f'checkpoint="{number}"', 'checkpoint="999999"'), "999999"),
        "another machine": (xml.replace('machine="web1"', 'machine="nobody"'), "nobody"),
        "a later version": (xml.replace("urn:x-ckpt:restore:1", "urn:x-ckpt:restore:2"), "newer"),
        "unprotected": (xml.replace("urn:x-ckpt:domain:1", "urn:x-other"), "protection element"),
        "another disk": (re.sub(r'name="[^"]*virtio-disk0[^"]*"', 'name="other"', xml), "virtio-disk0"),
        "no disk": (re.sub(r'<ckpt:disk [^>]*/>', "", xml), "vda"),
        "a disk elsewhere": (xml.replace(domain.directory, "/nowhere"), "/nowhere"),
    }
    for name, (text, words) in edits.items():
        assert text != xml, name
        with open(other, "w", encoding="utf-8") as out:
            out.write(text)
        refused(lambda: site.virsh("restore", file, "--xml", other), words)
        nothing_touched(site, file)
        print(f"refused: {name}", flush=True)
    assert site.ctl("restores", "web1")["restores"][0]["phase"] in ("ended", "failed")
    site.ctl("remove", f"web1@{number}")
    refused(lambda: site.virsh("restore", file), str(number))
    nothing_touched(site, file)
    site.stop()
    refused(lambda: site.virsh("restore", file), "ckptd is not running")
    nothing_touched(site, file)
    site.start()
    refused(lambda: site.virsh("restore", image(site, domain)[0]), "--libvirt")
    site.stop()
    site.start(("--libvirt", site.uri))


def given_up_by_libvirt(site, domain):
    """libvirt refuses after the hook has had it prepared; then the domain starts from its definition, and is not mistaken for it."""
    file, _ = image(site, domain)
    other = domain.path("other.xml")
    with open(file, "rb") as opened:
        head = opened.read(92)
        xml = opened.read(int.from_bytes(head[20:24], "little")).rstrip(b"\0").decode()
    with open(other, "w", encoding="utf-8") as out:
        out.write(xml.replace("</devices>", "<input type='tablet' bus='usb'/></devices>"))
    refused(lambda: site.virsh("restore", file, "--xml", other))
    assert leftovers(site, "web1")[1] == [domain.uuid + ".prepared"]
    overlay = site.restore_of("web1")["disks"][0]["overlay"]
    assert os.path.exists(overlay)
    site.virsh("start", "web1")
    domain.started().wait_ready(300)
    wait_until(lambda: site.restore_of("web1")["phase"] == "failed", 30, "the restore to be given up")
    assert not os.path.exists(overlay) and leftovers(site, "web1") == ([], [])
    site.wait_state("web1", "capturing")
    site.virsh("destroy", "web1")
    site.wait_state("web1", "off")


def managed_save(site, domain):
    """Planted where libvirt keeps its managed saves, it is what plain `virsh start` runs."""
    counter = site.checkpoints("web1")[-1]["number"]
    file, number = image(site, domain)
    assert number == counter
    directory = site.base + "/lib/qemu/save"
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["cp", file, f"{directory}/web1.save"], check=True)
    site.stop_libvirtd()
    site.start_libvirtd()
    site.virsh("start", "web1")
    domain.started().wait_ready(300)
    machine = site.wait_state("web1", "capturing")
    assert machine["base"] == f"web1@{number}", machine
    site.virsh("destroy", "web1")
    wait_until(lambda: site.restore_of("web1")["phase"] == "ended" and leftovers(site, "web1") == ([], []), 30, "the restore to end")


needs_libvirt()
os.environ["CKPT_QEMU_IMG"] = guests.qemu_dir() + "/qemu-img"
with LibvirtSite() as shared:
    os.environ["CKPT_QEMU_LAUNCHER"] = shared.launcher
    shared.start_libvirtd()
    shared.start(("--libvirt", shared.uri))
    web1 = shared.define(Domain(shared, "web1", protection="interval='300ms' retention='all'", guest="linux-small"))
    shared.virsh("start", "web1")
    web1.started().wait_ready(300)
    boot = nonce_of(web1)
    web1.cmd("load 16 200 20")
    shared.wait_state("web1", "capturing")
    saved_image = newest(shared, web1, boot)
    print("newest ok", flush=True)
    earlier(shared, web1, boot)
    print("earlier ok", flush=True)
    refusals(shared, web1, saved_image)
    print("refusals ok", flush=True)
    given_up_by_libvirt(shared, web1)
    print("given_up_by_libvirt ok", flush=True)
    managed_save(shared, web1)
    print("managed_save ok", flush=True)
