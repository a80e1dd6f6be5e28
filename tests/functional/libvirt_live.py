#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""Protection of domains that run is switched on, changed and off: by ckptctl, and by `virsh metadata`, without a restart, a monitor
command or a taint; a libvirtd or a bridge that comes back changes nothing."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, alive, wait_until  # noqa: E402
from libvirt_site import NAMESPACE, Domain, LibvirtSite, command_line, needs_libvirt  # noqa: E402


def metadata(site, name, element=None):
    what = ["--remove"] if element is None else ["--set", element]
    site.virsh("metadata", name, "--uri", NAMESPACE, "--key", "ckpt", *what, "--live", "--config")


def bridge(site):
    """Its process."""
    found = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and f"{site.run_dir}\0follow" in command_line(pid)]
    return found[0] if len(found) == 1 else None


def attributes(site, name):
    return site.virsh("metadata", name, "--uri", NAMESPACE, "--config")


def by_command(site, domain):
    """ckptctl on a domain that runs, started by the launcher and without an element."""
    answer = site.ctl("protect", "web1", "--interval", "300ms")
    assert answer == {"domain": "web1", "running": True, "error": ""}, answer
    machine = site.wait_state("web1", "capturing")
    assert machine["interval_ms"] == 300 and machine["domain"] == domain.uuid, machine
    site.wait_checkpoints("web1", 2)
    # What is not said stays as it is.
    assert "is protected\n" in site.ctl_text("protect", "web1", "--retention", "all:60s")
    wait_until(lambda: site.machine("web1")["retention"] == "all:1m", 30, "the new retention")
    assert site.machine("web1")["interval_ms"] == 300 and 'interval="300ms"' in attributes(site, "web1")
    for arguments, code in ((("protect", "web1", "--interval", "1ms"), 3), (("set", "web1", "interval=1s"), 11)):
        try:
            site.ctl_text(*arguments)
            raise AssertionError(arguments)
        except CtlError as error:
            assert error.code == code, error
    assert "web1 is no longer protected" in site.ctl_text("unprotect", "web1")
    site.wait_state("web1", "off")
    assert site.checkpoints("web1") and site.domain_files() == []
    assert attributes(site, "web1") == "" and "ckpt:" not in site.virsh("dumpxml", "web1")


def by_virsh(site):
    metadata(site, "web1", "<protection interval='200ms'/>")
    site.wait_state("web1", "capturing")
    assert site.machine("web1")["interval_ms"] == 200
    metadata(site, "web1", "<protection interval='400ms' retention='all'/>")
    wait_until(lambda: (m := site.machine("web1"))["interval_ms"] == 400 and m["retention"] == "all" and m["state"] == "capturing", 30,
               "the edit to be seen")
    before = site.machine("web1")
    metadata(site, "web1", "<protection interval='never'/>")
    wait_until(lambda: "not a duration" in site.unprotected().get("web1", ""), 30, "the wrong edit to be reported")
    assert site.machine("web1")["state"] == "off"
    metadata(site, "web1", "<protection interval='200ms'/>")
    after = site.wait_state("web1", "capturing")
    assert site.unprotected() == {} and after["checkpoints"] >= before["checkpoints"]


def libvirtd_restarts(site):
    """An edit while the bridge has no connection is seen when it has one again; protection goes on meanwhile."""
    first = site.libvirtd.pid
    site.stop_libvirtd(signal.SIGKILL)
    site.wait_checkpoints("web1", 2)
    site.start_libvirtd()
    assert site.libvirtd.pid != first
    metadata(site, "web1", "<protection interval='250ms'/>")
    wait_until(lambda: site.machine("web1")["interval_ms"] == 250, 60, "the edit to be seen")
    site.wait_checkpoints("web1", 2)


def libvirtd_hangs(site):
    site.libvirtd.send_signal(signal.SIGSTOP)
    try:
        site.wait_checkpoints("web1", 2)
        site.ctl("status")
    finally:
        site.libvirtd.send_signal(signal.SIGCONT)


def bridge_dies(site):
    first = wait_until(lambda: bridge(site), 30, "the bridge")
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: (pid := bridge(site)) and pid != first and pid, 30, "another bridge")
    metadata(site, "web1", "<protection interval='350ms'/>")
    wait_until(lambda: site.machine("web1")["interval_ms"] == 350, 60, "the edit to be seen")
    # It ends with its ckptd, however that ends.
    site.stop(signal.SIGKILL)
    wait_until(lambda: not alive(second), 30, "the bridge to end")
    site.start(("--libvirt", site.uri))
    site.wait_state("web1", "capturing")
    wait_until(lambda: bridge(site), 30, "the bridge of the new ckptd")


def stale_file(site):
    """A domain that ended while nobody looked, as without a hook: the bridge finds out."""
    ended = f"{site.run_dir}/libvirt/6b0a2f4c-3c0e-4d9e-9a43-0d6f6a6a1c11.json"
    site.stop()
    wait_until(lambda: not bridge(site), 30, "the bridge to end")
    with open(ended, "w", encoding="ascii") as file:
        file.write("{}")
    site.start(("--libvirt", site.uri))
    wait_until(lambda: not os.path.exists(ended), 30, "the stale file to go")
    site.wait_state("web1", "capturing")


def another_emulator(site):
    """A domain of libvirt's own QEMU: its XML is changed, and it is protected from its next start on."""
    stock = "/usr/bin/qemu-system-x86_64"
    if not os.access(stock, os.X_OK):
        print("no stock QEMU here: not tried")
        return
    domain = Domain(site, "stock one", protection=None)
    domain.emulator = stock
    site.define(domain)
    site.virsh("start", "stock one")
    try:
        said = site.ctl_text("protect", "stock one")
        raise AssertionError(said)
    except CtlError as error:
        # Its name cannot be a machine's: nothing has been changed.
        assert "machine='NAME'" in error.text, error
    assert site.unprotected() == {} and stock in site.virsh("dumpxml", "--inactive", "stock one")
    site.virsh("destroy", "stock one")
    site.virsh("domrename", "stock one", "stock1")
    site.virsh("start", "stock1")
    said = site.ctl_text("protect", "stock1", "--interval", "200ms")
    assert "from its next start on" in said and "<emulator>" in said, said
    wait_until(lambda: "<emulator>" in site.unprotected().get("stock1", ""), 30, "the old QEMU to be reported")
    site.virsh("destroy", "stock1")
    site.virsh("start", "stock1")
    site.wait_state("stock1", "capturing")
    site.virsh("destroy", "stock1")


def no_domain(site):
    """Names that libvirt does not know are plain machines, as without libvirt."""
    assert site.ctl("protect", "plain", "--interval", "1s")["socket"] == site.run_dir + "/plain.sock"
    assert site.machine("plain")["state"] == "waiting" and site.machine("plain")["domain"] is None
    # A launcher that is missing is no domain that is missing.
    site.define(Domain(site, "bare", protection=None))
    known, os.environ["CKPT_QEMU_LAUNCHER"] = os.environ["CKPT_QEMU_LAUNCHER"], "/nowhere"
    try:
        said = site.ctl_text("protect", "bare")
        raise AssertionError(said)
    except CtlError as error:
        assert "/nowhere" in error.text and "bare" not in site.ctl_text("status"), error
    os.environ["CKPT_QEMU_LAUNCHER"] = known
    site.ctl("unprotect", "plain")


needs_libvirt()
with LibvirtSite() as shared:
    os.environ["CKPT_QEMU_LAUNCHER"] = shared.launcher
    shared.start_libvirtd()
    shared.start(("--libvirt", shared.uri))
    web1 = shared.define(Domain(shared, "web1", protection=None))
    shared.virsh("start", "web1")
    web1.started().wait_ready()
    pid, nonce = shared.domain_pid("web1"), web1.cmd("nonce")
    by_command(shared, web1)
    for case in (by_virsh, libvirtd_restarts, libvirtd_hangs, bridge_dies, stale_file):
        case(shared)
        print(case.__name__, "ok", flush=True)
    assert shared.domain_pid("web1") == pid and web1.cmd("nonce") == nonce and web1.tainted() == [], web1.tainted()
    shared.virsh("destroy", "web1")
    for case in (another_emulator, no_domain):
        case(shared)
        print(case.__name__, "ok", flush=True)
