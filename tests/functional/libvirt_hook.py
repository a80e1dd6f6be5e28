#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""libvirt's hook by itself: whatever it is given and whatever becomes of it, it ends no domain that runs, and keeps only
those from starting whose element requires protection."""
import json
import os
import pwd
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, wait_until  # noqa: E402
from own_mounts import in_own_namespace  # noqa: E402

HOOK = BUILD + "/libvirt-hooks/ckpt-libvirt-hook"
UUID = "6b0a2f4c-3c0e-4d9e-9a43-0d6f6a6a1c11"
FILE = f"/run/ckpt/libvirt/{UUID}.json"
STARTING = ("prepare", "start")
RUNNING = ("started", "reconnect", "stopped", "release", "migrate", "restore", "attach", "unknown")


def xml(attributes="", name="web1", label="", uri="urn:x-ckpt:domain:1"):
    return (f"<domain><name>{name}</name><uuid>{UUID}</uuid><metadata><c:protection xmlns:c='{uri}' {attributes}/></metadata>"
            f"<devices><emulator>/opt/bin/ckpt-qemu-system-x86_64</emulator></devices>{label}</domain>")


def hook(operation, text, code=0):
    done = subprocess.run([HOOK, "web1", operation, "begin", "-"], input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (operation, text[:100], done)
    assert done.stdout == "", "what it prints may become the domain's XML"
    return done.stderr


def record():
    with open(FILE, encoding="utf-8") as file:
        return json.load(file)


def life():
    assert hook("prepare", xml()) == "" and not os.path.exists(FILE)
    hook("start", xml("interval='2s'"))
    assert record()["policy"] == {"interval_ms": 2000} and record()["error"] == "" and record()["user"] is None
    assert stat.S_IMODE(os.stat(FILE).st_mode) == 0o600
    hook("started", xml())
    assert record()["policy"] == {"interval_ms": 2000}
    hook("reconnect", xml("interval='3s'"))
    assert record()["policy"] == {"interval_ms": 3000}
    hook("stopped", xml())
    assert not os.path.exists(FILE)
    hook("release", xml())
    # An element that has gone meanwhile.
    hook("start", xml())
    hook("reconnect", xml(uri="urn:x-other"))
    assert os.listdir("/run/ckpt/libvirt") == []


def users():
    """QEMU's user may read its file and find its socket, and nothing else."""
    other = pwd.getpwnam("nobody")
    for label in (f"+{other.pw_uid}:+{other.pw_gid}", f"{other.pw_uid}:{other.pw_gid}", "nobody:nogroup"):
        hook("start", xml(label=f"<seclabel model='dac'><label>{label}</label></seclabel>"))
        about = os.stat(FILE)
        assert record()["user"] == {"uid": other.pw_uid, "gid": other.pw_gid}, label
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, other.pw_gid, 0o640), label
    for path in ("/run/ckpt", "/run/ckpt/libvirt"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o711, path
    said = hook("start", xml(label="<seclabel model='dac'><label>no-such-user:nogroup</label></seclabel>"))
    assert "no user and group" in said and "no user and group" in record()["error"], said
    hook("release", xml())


def bad_input():
    bad = ["", "\0", "not XML", "<domain>", "<domain/>", "<network/>", xml()[:-20], "<a>" * 100_000, "<!DOCTYPE a SYSTEM '/etc/passwd'>" + xml(),
           xml(name="w" * 10_000_000), xml() + " " * (1 << 20)]
    for text in bad:
        for operation in STARTING + RUNNING:
            said = hook(operation, text)
            assert "NOT protected" in said or operation not in (*STARTING, "reconnect"), (operation, text[:50], said)
    assert os.listdir("/run/ckpt/libvirt") == []
    # Such text is not even the domain's; an element that is wrong is.
    for attributes in ("interval='soon'", "wrong='1'", "machine='a/b'"):
        for operation in STARTING + RUNNING:
            hook(operation, xml(attributes))
            said = hook(operation, xml(attributes + " required='yes'"), 1 if operation in STARTING else 0)
            assert "must not start" in said or operation not in STARTING, said
    hook("release", xml())
    for arguments in ([], ["web1"], ["web1", "start"], ["", "", "", ""], ["web1", "prepare", "begin", "-", "more"]):
        assert subprocess.run([HOOK, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False).returncode == 0, arguments


def no_room():
    """Where it leaves its files is no directory, or takes no more."""
    os.rename("/run/ckpt", "/run/away")
    with open("/run/ckpt", "w", encoding="ascii"):
        pass
    assert "NOT protected" in hook("start", xml()) and "NOT protected" in hook("reconnect", xml("required='yes'"))
    assert "must not start" in hook("start", xml("required='yes'"), 1)
    hook("release", xml())
    os.unlink("/run/ckpt")
    os.mkdir("/run/ckpt")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "tmpfs", "/run/ckpt"], check=True)
    os.mkdir("/run/ckpt/libvirt")
    with open("/run/ckpt/libvirt/full", "w", encoding="ascii"):
        pass
    assert "No space" in hook("start", xml())
    assert os.listdir("/run/ckpt/libvirt") == ["full"]
    subprocess.run(["umount", "/run/ckpt"], check=True)
    os.rmdir("/run/ckpt")
    os.rename("/run/away", "/run/ckpt")


def child_of(process):
    return wait_until(lambda: next((int(p) for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == process.pid), None), 30, "its child")


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def whatever_becomes_of_it():
    """What does the work crashes, or libvirt never ends the XML: no domain is the worse for it."""
    for operation in ("prepare", "start", "reconnect"):
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
            with subprocess.Popen([HOOK, "web1", operation, "begin", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                os.kill(child_of(process), number)
                assert process.wait(60) == 0, (operation, number)
    with subprocess.Popen([HOOK, "web1", "prepare", "begin", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(xml("required='yes' interval='soon'").encode())
        process.stdin.flush()
        assert b"not done after" in process.stderr.read() and process.wait(60) == 0
    assert os.listdir("/run/ckpt/libvirt") == []


def restoring():
    """An image that names a checkpoint is not restored when anything goes wrong: its memory would be missing."""
    point = "<r:restore xmlns:r='urn:x-ckpt:restore:1' machine='web1' checkpoint='7'/></metadata>"
    image = xml().replace("</metadata>", point)
    assert "ckptd is not running" in hook("restore", image, 1)
    for text, words in ((image[:-20], "XML"), (image + " " * (1 << 20), "256 KiB"), (image.replace("'7'", "'-7'"), "no number"),
                        (image.replace("restore:1", "restore:9"), "newer"), (image.replace("domain:1", "other:1"), "protection element")):
        assert words in hook("restore", text, 1), words
    # Elsewhere the element means nothing, and a start goes on when nothing was prepared for it.
    for operation in ("prepare", "start", "started", "migrate", "stopped"):
        assert hook(operation, image) == ""
    for number in (signal.SIGSEGV, signal.SIGKILL):
        with subprocess.Popen([HOOK, "web1", "restore", "begin", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            os.kill(child_of(process), number)
            assert process.wait(60) == 1, number
    # What was prepared cannot go on: once, the start is refused.
    prepared = FILE.replace(".json", ".prepared")
    for text in ("{", json.dumps({"version": 2}), json.dumps({"version": 1, "machine": "web1", "token": "1", "disks": []})):
        with open(prepared, "w", encoding="ascii") as file:
            file.write(text)
        assert "start, again" in hook("start", xml(), 1) and not os.path.exists(prepared)
        assert hook("start", xml()) == ""
    with open(prepared, "w", encoding="ascii") as file:
        json.dump({"version": 1, "machine": "web1", "token": "1", "disks": [{"target": "vda", "overlay": "/new.qcow2"}]}, file)
    assert hook("start", xml()) == "" and not os.path.exists(prepared)
    hook("release", xml())
    assert os.listdir("/run/ckpt/libvirt") == []


def reverting():
    """A start with the disks of a snapshot is a revert, which libvirt must not end without a current snapshot; another start is none."""
    points, kept = FILE.replace(".json", ".snapshots"), "/var/lib/libvirt/qemu/snapshot/web1"
    disk = ("<disk type='file' device='disk'><source file='/i/web1.vda.7.snapshot.qcow2'/><backingStore type='network'><source protocol='nbd'>"
            "<host transport='unix' socket='/run/ckpt/restore/web1/disk-0.sock'/></source></backingStore><target dev='vda'/></disk></devices>")
    text = xml().replace("</devices>", disk)
    one = {"version": 1, "machine": "web1", "points": [
        {"number": 7, "snapshot": "one", "disks": [{"target": "vda", "name": "virtio-disk0", "file": "/i/web1.vda.7.snapshot.qcow2"}]}]}
    assert hook("prepare", text) == ""
    for bad in ("", "[]", "{}", json.dumps({**one, "version": 2}), json.dumps({**one, "points": {}})):
        with open(points, "w", encoding="ascii") as file:
            file.write(bad)
        assert points in hook("prepare", text, 1), bad
        assert hook("prepare", xml()) == ""
    with open(points, "w", encoding="ascii") as file:
        json.dump(one, file)
    assert hook("prepare", text.replace("web1.vda.7.snapshot", "web1.vda.7")) == ""
    assert "protect" in hook("prepare", text.replace("domain:1", "domain:9"), 1)
    assert "ckptd is not running" in hook("prepare", text, 1)
    os.makedirs(kept)
    for active, words in ((0, "no current snapshot"), (1, "ckptd is not running")):
        with open(kept + "/one.xml", "w", encoding="ascii") as file:
            file.write(f"<domainsnapshot><name>one</name><active>{active}</active></domainsnapshot>")
        assert words in hook("prepare", text, 1), active
    os.unlink(points)
    assert os.listdir("/run/ckpt/libvirt") == []


in_own_namespace()
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib"], check=True)
for case in (life, users, bad_input, no_room, restoring, reverting, whatever_becomes_of_it):
    case()
    print(case.__name__, "ok", flush=True)
