#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""A domain with UEFI: its variables are captured with it and come back with it, in a file of their own, and a clone has its own."""
import os
import re
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import guest as guests  # noqa: E402
from ckpt_site import wait_until  # noqa: E402
from libvirt_site import Domain, LibvirtSite, needs_libvirt  # noqa: E402

CODE, VARIABLES = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"


class UefiDomain(Domain):
    """Its variables lie beside its disk, and are not those that the firmware came with: it has written its own at boot."""

    def xml(self):
        firmware = (f"<loader readonly='yes' type='pflash'>{CODE}</loader>"
                    f"<nvram template='{VARIABLES}'>{self.path('vars.fd')}</nvram>")
        return super().xml().replace("hvm</type>", "hvm</type>" + firmware)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def nvram_of(site, name, *how):
    return re.search(r"<nvram[^>]*>([^<]*)</nvram>", site.virsh("dumpxml", name, *how)).group(1)


def lost(site, name):
    os.kill(site.domain_pid(name), signal.SIGKILL)
    wait_until(lambda: site.state(name) == "shut off" and site.machine(name)["state"] == "off", 60, "libvirt to notice")


def restored(site, domain, nonce, counter):
    domain.started().wait_ready(300)
    assert wait_until(lambda: re.fullmatch("[0-9a-f]{16}", heard := domain.cmd("nonce")) and heard, 30, "a nonce") == nonce
    assert int(domain.cmd("counter")) >= counter
    assert domain.cmd("verify", timeout_s=180).startswith("ok")


needs_libvirt()
if not os.path.exists(CODE):
    print("needs OVMF (package ovmf)")
    sys.exit(77)
os.environ["CKPT_QEMU_IMG"] = guests.qemu_dir() + "/qemu-img"
with LibvirtSite() as shared:
    os.environ["CKPT_QEMU_LAUNCHER"] = shared.launcher
    shared.start_libvirtd()
    shared.start(("--libvirt", shared.uri))
    web1 = shared.define(UefiDomain(shared, "web1", protection="interval='300ms' retention='all'", guest="linux-small"))
    shared.virsh("start", "web1")
    web1.started().wait_ready(300)
    boot, first = web1.cmd("nonce"), int(web1.cmd("counter"))
    web1.cmd("load 16 200 20")
    shared.wait_state("web1", "capturing")
    shared.wait_checkpoints("web1", 2)
    written = content(web1.path("vars.fd"))
    assert written != content(VARIABLES), "the firmware has written nothing: nothing would be proved"
    file = shared.ctl("image", "web1", "-o", web1.path("web1.save"))["file"]
    number = shared.checkpoints("web1")[-1]["number"]
    lost(shared, "web1")
    # What a later boot has left there, or nobody.
    shutil.copy(VARIABLES, web1.path("vars.fd"))
    # When it runs, QEMU writes them there once more, out of the flash's memory.
    shared.virsh("restore", "--paused", file)
    now = nvram_of(shared, "web1")
    assert re.fullmatch(re.escape(web1.directory) + r"/web1_VARS\.\d+\.fd", now), now
    assert content(now) == written, "not those of the checkpoint"
    shared.virsh("resume", "web1")
    restored(shared, web1, boot, first)
    assert content(now) == written and content(web1.path("vars.fd")) == content(VARIABLES)
    wait_until(lambda: shared.restore_of("web1")["phase"] == "local", 120, f"all to be local: {shared.log_text()}")
    assert nvram_of(shared, "web1", "--inactive") == now, "the next start would have the former variables"
    shared.wait_state("web1", "capturing")
    print("restored with its variables", flush=True)

    shared.ctl("clone", "web1", "web2")
    other = nvram_of(shared, "web2")
    assert other != now and content(other) == written and shared.state("web1") == "running"
    shared.wait_state("web2", "capturing")
    print("a clone has its own", flush=True)
    assert number <= shared.checkpoints("web1")[-1]["number"]
