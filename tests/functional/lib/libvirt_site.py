# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirtd and a ckptd beside each other, as on a host of their own, and guests that virsh starts.

    from libvirt_site import Domain, LibvirtSite, needs_libvirt
    needs_libvirt()
    with LibvirtSite() as site:
        site.start()                          # ckptd
        site.start_libvirtd()
        domain = Domain(site, "web1", protection="interval='200ms'")
        site.define(domain)
        site.virsh("start", "web1")
        site.wait_checkpoints("web1", 3)

libvirtd is stock. It sees its directories and /run elsewhere, in a mount namespace of its own; user, security driver
and sandbox of its QEMUs are those that it takes by itself. Its QEMUs find the hook and the launcher where an admin would put them.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid

import guest as guests
from ckpt_site import BUILD, CtlError, Machine, Site, alive, wait_until

NAMESPACE = "urn:x-ckpt:domain:1"
HOOK = BUILD + "/libvirt-hooks/ckpt-libvirt-hook"
LAUNCHER = BUILD + "/libvirt-hooks/ckpt-qemu-system-x86_64"
MOUNTS = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "cache": "/var/cache/libvirt", "run": "/run"}
CONFIG = {
    # No systemd here that could make cgroups, no file system that keeps trusted attributes, no virtlogd.
    "qemu.conf": 'cgroup_controllers = [ ]\nremember_owner = 0\nstdio_handler = "file"\n',
    "libvirtd.conf": 'host_uuid = "{uuid}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "3:file:/var/log/libvirt/libvirtd.log"\n',
}
# The second port: the first is the workload's.
AGENT = ("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
         "<address type='virtio-serial' controller='0' bus='0' port='2'/></channel>")
ENTER = """
set -e
hostname "$2"
ip link set lo up 2>/dev/null || true
cd "$1"
mount --bind "$3" lib/ckpt/qemu/bin
shift 3
for pair in "$@"; do mount --bind "site/${pair%%:*}" "${pair#*:}"; done
exec /usr/sbin/libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid
"""


def why_no_libvirt():
    """What libvirtd lacks here; empty: it can run."""
    if os.geteuid() != 0:
        return "root, for libvirtd"
    for program in ("libvirtd", "virsh", "unshare"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return program
    missing = [path for path in MOUNTS.values() if not os.path.isdir(path)]
    if missing:
        return "libvirt's directories: " + ", ".join(missing)
    probe = subprocess.run(["unshare", "--mount", "--uts", "mount", "--bind", "/mnt", "/run"], capture_output=True, text=True, check=False)
    return "the right to mount: " + probe.stderr.strip() if probe.returncode != 0 else ""


def needs_libvirt():
    """Skips the test where libvirtd cannot run."""
    lacks = why_no_libvirt()
    if lacks:
        print("needs " + lacks)
        sys.exit(77)


class VirshError(Exception):
    """virsh ended with an error, whose text this is."""


def refused(call, *words):
    """virsh or ckptctl says no, in these words."""
    try:
        call()
    except (VirshError, CtlError) as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError(f"not refused: {words}")


class LibvirtSite(Site):
    def __init__(self, hostname="site-a", **how):
        super().__init__(**how)
        os.chmod(self.directory, 0o755)  # for QEMU's user
        self.hostname = hostname
        self.base = self.directory + "/site"
        self.run_dir = self.base + "/run/ckpt"
        self.uri = f"qemu+unix:///system?socket={self.base}/run/libvirt/libvirt-sock"
        self.launcher = self.directory + "/bin/ckpt-qemu-system-x86_64"
        self.libvirtd = None
        for name in ("bin", "lib/ckpt/qemu/bin", *("site/" + name for name in MOUNTS), "site/run/libvirt", "site/etc/hooks/qemu.d",
                     "site/log/qemu"):
            os.makedirs(f"{self.directory}/{name}")
        for name, text in CONFIG.items():
            with open(f"{self.base}/etc/{name}", "w", encoding="utf-8") as file:
                file.write(text.replace("{uuid}", str(uuid.uuid4())))
        if os.path.exists("/dev/kvm"):
            # Whichever group has it here: a KVM that is there and refuses QEMU costs libvirtd half a minute a QEMU.
            with open(f"{self.base}/etc/qemu.conf", "a", encoding="utf-8") as file:
                file.write(f'group = "+{os.stat("/dev/kvm").st_gid}"\n')
        shutil.copy(LAUNCHER, self.launcher)
        shutil.copy(HOOK, self.base + "/etc/hooks/qemu.d/ckpt")

    def start_libvirtd(self):
        """Also again, as after an update: its QEMUs run on."""
        environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        with open(self.base + "/log/start.log", "ab") as log:
            self.libvirtd = subprocess.Popen(
                ["unshare", "--mount", "--uts", "--propagation", "private", "/bin/bash", "-c", ENTER, "libvirtd", self.directory, self.hostname,
                 guests.qemu_dir(), *(f"{name}:{path}" for name, path in MOUNTS.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        wait_until(lambda: self.libvirtd.poll() is not None or self.libvirtd_answers(), 120, "libvirtd to answer")
        if self.libvirtd.poll() is not None:
            raise RuntimeError("libvirtd ended: " + self.libvirtd_log())
        return self

    def libvirtd_answers(self):
        try:
            self.virsh("list")
            return True
        except VirshError:
            return False

    def libvirtd_log(self):
        texts = []
        for path in (self.base + "/log/start.log", self.base + "/log/libvirtd.log"):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    texts.append(file.read()[-3000:])
        return "\n".join(texts)

    def stop_libvirtd(self, number=signal.SIGTERM):
        if self.libvirtd:
            self.libvirtd.send_signal(number)
            self.libvirtd.wait(60)
        self.libvirtd = None

    def virsh(self, *arguments, timeout_s=120):
        """What virsh prints; its complaint as VirshError."""
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *arguments], capture_output=True, text=True, timeout=timeout_s,
                              check=False, stdin=subprocess.DEVNULL, env=dict(os.environ, LC_ALL="C"))
        if done.returncode != 0:
            raise VirshError(done.stderr.strip() or done.stdout.strip())
        return done.stdout.strip()

    def define(self, domain):
        path = domain.path("domain.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(domain.xml())
        self.virsh("define", path)
        return domain

    def state(self, name):
        return self.virsh("domstate", name)

    def domain_pid(self, name):
        with open(f"{self.base}/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
            return int(file.read())

    def unprotected(self):
        """{domain: why it runs unprotected}"""
        return {domain["name"]: domain["reason"] for domain in self.ctl("status")["unprotected"]}

    def domain_files(self):
        return [path for path in os.listdir(self.run_dir + "/libvirt") if path.endswith(".json")]

    def close(self):
        pids = []
        for path in glob.glob(self.base + "/run/libvirt/qemu/*.pid"):
            with open(path, encoding="ascii") as file:
                pids.append(int(file.read()))
        try:
            self.stop_libvirtd()
        finally:
            for pid in pids:
                if alive(pid) and self.directory in command_line(pid):
                    os.kill(pid, signal.SIGKILL)
            super().close()


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


class Domain(guests.Guest):
    """A guest that libvirt starts; the Debian one with a channel for its agent. `protection`: the element's attributes,
    None for no element."""

    def __init__(self, site, name, protection="", guest="bare", memory_mib=None, **how):
        directory = f"{site.directory}/{name.replace(' ', '_')}"
        os.makedirs(directory)
        os.chmod(directory, 0o777)
        if guest == "debian":
            # A copy: libvirt gives QEMU's user all images of a chain.
            how = {"append": "root=/dev/vda", "disks": [(shutil.copy(guests.guest_files(guest)["disk"], directory + "/disk.qcow2"), "qcow2")], **how}
        super().__init__(guest, directory=directory, memory_mib=memory_mib or {"bare": 64, "debian": 512}.get(guest, 256), **how)
        self.site, self.domain, self.protection = site, name, protection
        self.uuid = str(uuid.uuid4())
        self.emulator = site.launcher
        # libvirt gives to QEMU's user what it lets it read: the cache's own stay what they are.
        for kind in self.files.keys() - {"disk"}:
            self.files[kind] = shutil.copy(self.files[kind], directory)

    def metadata(self):
        if self.protection is None:
            return ""
        if self.protection.startswith("<"):
            return self.protection
        return f"<ckpt:protection xmlns:ckpt='{NAMESPACE}' {self.protection}/>"

    def xml(self):
        boot = f"<kernel>{self.files['kernel']}</kernel>"
        if self.name != "bare":
            boot += f"<initrd>{self.files['initrd']}</initrd><cmdline>console=ttyS0 quiet panic=-1 {self.append}</cmdline>"
        elif self.append:
            boot += f"<cmdline>{self.append}</cmdline>"
        disks = "".join(f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{path}'/>"
                        f"<target dev='vd{'abcdef'[number]}' bus='virtio'/></disk>" for number, (path, kind) in enumerate(self.disks))
        return (f"<domain type='qemu'><name>{self.domain}</name><uuid>{self.uuid}</uuid><metadata>{self.metadata()}</metadata>"
                f"<memory unit='MiB'>{self.memory_mib}</memory><vcpu>{self.cpus}</vcpu>"
                f"<os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os><features><acpi/></features>"
                f"<devices><emulator>{self.emulator}</emulator>{disks}"
                f"<serial type='file'><source path='{self.path('console.log')}'/><target port='0'/></serial>"
                f"<serial type='unix'><source mode='bind' path='{self.path('line.sock')}'/><target port='1'/></serial>"
                f"{AGENT if self.name == 'debian' else ''}</devices></domain>")

    def started(self):
        """virsh has started it: cmd() talks to it from now on."""
        self.disconnect()
        self.process = Machine(self.site.domain_pid(self.domain))
        return self

    def disconnect(self):
        if self.line:
            self.line.close()
        self.line = None

    def qemu_log(self):
        path = f"{self.site.base}/log/qemu/{self.domain}.log"
        if not os.path.exists(path):
            return "(no log)"
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def tainted(self):
        """What libvirt says of it in its log and in its status."""
        return re.findall(r".*taint.*", self.qemu_log() + self.site.virsh("dominfo", self.domain))

    def close(self):
        self.disconnect()
        self.process = None
