#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 1200
"""The Debian package is built, installed, used and removed: by dpkg, on this machine, of which everything that is written goes into
memory and is forgotten."""
import glob
import os
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from own_mounts import in_own_namespace  # noqa: E402

in_own_namespace()
from guest import ROOT, Guest  # noqa: E402
import ckpt_site  # noqa: E402

HOOK = "/etc/libvirt/hooks/qemu.d/ckpt"
UNIT = "/lib/systemd/system/ckptd.service"


def checked(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout + done.stderr


def cover(directory):
    """What dpkg writes to: on top of it memory of this namespace alone."""
    checked("mount", "-t", "tmpfs", "tmpfs", directory)
    for name in ("usr", "etc", "var"):
        upper, work = f"{directory}/{name}/upper", f"{directory}/{name}/work"
        os.makedirs(upper)
        os.mkdir(work)
        checked("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/{name},upperdir={upper},workdir={work}", "/" + name)


def options_of_unit():
    """ckptd's command line, as systemd makes it of unit and defaults."""
    with open("/etc/default/ckptd", encoding="utf-8") as file:
        given = [line.split("=", 1)[1] for line in file if line.startswith("CKPTD_OPTIONS=")]
    with open(UNIT, encoding="utf-8") as file:
        program = [line.split("=", 1)[1].split() for line in file if line.startswith("ExecStart=")]
    assert program == [["/usr/sbin/ckptd", "$CKPTD_OPTIONS"]], program
    return shlex.split(shlex.split(given[0])[0])


def used(directory):
    """A machine lives on with what the package brought: programs, QEMU, agent and plugin from their places."""
    os.makedirs(directory + "/ckptd")
    os.symlink("/usr/sbin/ckptd", directory + "/ckptd/ckptd")
    os.symlink("/usr/bin/ckptctl", directory + "/ckptd/ckptctl")
    ckpt_site.BUILD = directory
    os.environ["CKPT_QEMU_DIR"] = "/usr/lib/ckpt/qemu/bin"
    options = options_of_unit()
    assert options[:2] == ["--store", "/var/lib/ckpt"], options
    with ckpt_site.Site(store=options[1]) as site, Guest("linux-small", memory_mib=128, directory=site.directory) as guest:
        site.start(options[2:])
        site.run(guest, "vm1")
        guest.wait_ready()
        site.wait_checkpoints("vm1", 3)
        before = int(guest.cmd("counter"))
        nonce = guest.cmd("nonce")
        site.wait_checkpoints("vm1", 2)
        guest.kill()
        answer = site.restore(guest, "vm1")
        with open(f"/proc/{answer['qemu_pid']}/cmdline", "rb") as line:
            assert line.read().startswith(b"/usr/lib/ckpt/qemu/bin/qemu-system-x86_64"), "another QEMU was started"
        assert guest.cmd("nonce") == nonce and int(guest.cmd("counter")) > before


def main():
    print("1..4", flush=True)
    packages = glob.glob(ROOT + "/build-deb/ckpt_*.deb")
    for package in packages:
        os.unlink(package)
    checked("make", "-C", ROOT, "deb")
    package, = glob.glob(ROOT + "/build-deb/ckpt_*.deb")
    print("ok 1 - make deb builds the package", flush=True)
    with tempfile.TemporaryDirectory(prefix="ckpt-package-") as directory:
        try:
            cover(directory)
            checked("dpkg", "--force-unsafe-io", "--no-triggers", "-i", package)
            with open(HOOK, "rb") as hook, open("/usr/libexec/ckpt/ckpt-libvirt-hook", "rb") as wanted:
                assert hook.read() == wanted.read()
            assert os.stat(HOOK).st_mode & 0o777 == 0o755 and not os.path.islink(HOOK)
            assert os.path.islink("/etc/systemd/system/multi-user.target.wants/ckptd.service"), "it does not start with the host"
            assert not (said := checked("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", UNIT).strip()), said
            with open("/etc/apparmor.d/abstractions/libvirt-qemu.d/ckpt", encoding="utf-8") as rules:
                assert "\n/usr/bin/ckpt-qemu-system-x86_64 rmix,\n" in rules.read()
            for page in ("man1/ckptctl.1.gz", "man8/ckptd.8.gz", "man7/ckpt-libvirt.7.gz"):
                assert os.path.exists("/usr/share/man/" + page), page
            print("ok 2 - dpkg installs it: unit, hook, rules and pages are where they are looked for", flush=True)
            used(directory + "/programs")
            print("ok 3 - ckptd as its unit starts it, with the package's QEMU: a machine that was killed goes on", flush=True)
            checked("dpkg", "--force-unsafe-io", "--no-triggers", "-r", "ckpt")
            assert not os.path.exists(HOOK) and not os.path.exists(UNIT) and not os.path.exists("/usr/lib/ckpt")
            assert os.path.exists("/etc/default/ckptd") and os.listdir("/var/lib/ckpt"), "what an admin made is gone"
            checked("dpkg", "--force-unsafe-io", "--no-triggers", "-P", "ckpt")
            assert not os.path.exists("/etc/default/ckptd") and os.listdir("/var/lib/ckpt")
            print("ok 4 - removed, it leaves the store alone, and a purge takes its configuration", flush=True)
        finally:
            for path in ("/usr", "/etc", "/var", directory):
                subprocess.run(["umount", "-l", path], check=False, stderr=subprocess.DEVNULL)


main()
