#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""What ckptctl and ckptd say is what is so: errors with the system's reason, the state after a change, one JSON document a run; and
nothing is left of what was forgotten, or half of what failed. Runs in a mount namespace of its own."""
import json
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import ROOT, CtlError, Site, wait_until  # noqa: E402
from generator import Generator, ask  # noqa: E402
from own_mounts import in_own_namespace  # noqa: E402

INVALID, BUSY, NO_SPACE, UNAVAILABLE, REFUSED = 3, 7, 8, 10, 11


def refused(site, code, *arguments):
    try:
        site.ctl_text(*arguments)
    except CtlError as error:
        assert error.code == code, f"{error} instead of {code}"
        return error.text
    raise AssertionError(f"{arguments} did not fail")


def document(site, code, *arguments):
    """The one JSON document that a run prints, whatever its end."""
    done = subprocess.run(site.command("--json", *arguments), capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (done.returncode, done.stderr)
    answer = json.loads(done.stdout)
    assert "more" not in answer and ("ok" in answer) == (code != 0), answer
    assert code == 0 or answer["error"]["number"] == code, answer
    return answer


def small_disk(place, free_bytes):
    """At `place` a file system with so little room left."""
    os.makedirs(place, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    with open(place + "/ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, (1 << 20) - free_bytes)


def full_disk_is_said(site):
    small_disk(site.store + "/machines", 0)
    text = refused(site, NO_SPACE, "protect", "other")
    assert "No space left on device" in text and "other.json" in text, text
    assert os.listdir(site.store + "/machines") == ["ballast"], "half a file was left"
    subprocess.run(["umount", site.store + "/machines"], check=True)
    # The device state takes the little that there is, then no more: that is no success and has no reason of its own.
    small_disk(site.run_dir + "/restore/copy", 12 << 10)
    answer = ask(site, verb="restore_begin", machine="vm", point="latest", **{"as": "copy"})
    assert not answer["ok"] and answer["error"]["number"] == NO_SPACE, answer
    assert "No space left on device" in answer["error"]["message"], answer
    assert not os.path.exists(site.run_dir + "/restore/copy/device-state")
    subprocess.run(["umount", site.run_dir + "/restore/copy"], check=True)
    assert not site.checkpoints("vm")[-1]["pins"]
    print("a full disk:", text)


def changes_answer_with_the_new_state(site):
    number = site.checkpoints("vm")[0]["number"]
    point = f"vm@{number}"
    assert site.ctl("name", point, "fine")["checkpoint"]["name"] == "fine"
    for _ in range(2):
        assert site.ctl("pin", point)["checkpoint"]["pins"] == ["admin"]
    assert site.ctl("pin", point, "--holder", "audit")["checkpoint"]["pins"] == ["admin", "audit"]
    for verb in (("remove", point), ("forget", "vm")):
        text = refused(site, BUSY, *verb)
        assert "admin, audit" in text and "unpin" in text, text
    assert site.ctl("unpin", point)["checkpoint"]["pins"] == ["audit"]
    assert site.ctl("unpin", point, "--holder", "audit")["checkpoint"]["pins"] == []
    assert site.ctl("name", point)["checkpoint"]["name"] == ""
    assert site.checkpoints("vm")[0] == site.ctl("unpin", point)["checkpoint"]


def the_newest_is_one_that_is_kept(site):
    before = site.machine("vm")
    older, newest = site.checkpoints("vm")[-2:]
    assert before["newest_wall_clock_ns"] == newest["wall_clock_ns"]
    site.ctl("remove", f"vm@{newest['number']}")
    now = site.machine("vm")
    assert now["newest_wall_clock_ns"] == older["wall_clock_ns"] and now["rpo_ms"] >= (newest["wall_clock_ns"] - older["wall_clock_ns"]) // 1_000_000, now
    site.ctl("protect", "none")
    assert site.machine("none")["newest_wall_clock_ns"] is None and site.machine("none")["rpo_ms"] is None
    site.ctl("forget", "none")


def one_document_a_run(site):
    assert document(site, 0, "verify", "vm")["damage"] == []
    assert document(site, INVALID, "set", "vm", "interval=1ms")["error"]["message"]
    assert document(site, INVALID, "restore", "vm", "--wait", "--mode", "lazy")["error"]["message"].count("finish") == 1
    lines = site.ctl_text("--json", "watch", "vm", "--count", "2").splitlines()
    assert len(lines) == 2 and all(set(json.loads(line)) == set(document(site, 0, "status")) for line in lines), lines
    for line in ("watch", "nonesuch"), ("watch", "vm", "--count", "1"):
        done = subprocess.run(site.command("--json", *line), capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        (said,) = map(json.loads, done.stdout.splitlines())
        assert ("error" in said) == (done.returncode != 0) == (line[1] == "nonesuch"), (line, said)
    store = document(site, 0, "status")["store"]
    assert [len(part) for part in store["uuid"].split("-")] == [8, 4, 4, 4, 12] and store["damage"] == []
    put_restore(site, "gone", phase="failed", reason="it was to be")
    answer = document(site, UNAVAILABLE, "progress", "gone")
    assert answer["restores"][0]["phase"] == "failed" and "it was to be" in answer["error"]["message"], answer


def every_field_is_documented(site):
    with open(ROOT + "/doc/control_protocol.md", encoding="utf-8") as file:
        paragraphs = {text.split("**")[1]: text for text in file.read().split("\n\n") if text.startswith("**")}
    put_restore(site, "shown", phase="failed")
    status, shown = site.ctl("status"), site.ctl("show", "vm@latest")
    for name, value in (("machine", status["machines"][0]), ("store", status["store"]), ("restore", status["restores"][0]),
                        ("checkpoint", shown["checkpoint"]), ("epoch", shown["epoch"])):
        missing = [key for key in value if f"`{key}`" not in paragraphs[name]]
        assert not missing, (name, missing)


def rules_are_refused_not_cut(site):
    assert "500ms:10s" in refused(site, INVALID, "set", "vm", "--retention", "500ms:10s")
    policy = site.ctl("set", "vm", "--interval", "100ms", "--retention", "1s:10s")["policy"]
    assert policy == {"interval_ms": 100, "consistent_ms": 0, "retention": [{"every_s": 1, "for_s": 10}]}, policy
    refused(site, INVALID, "set", "vm")


def an_older_record_of_the_store_is_understood(site):
    """Its UUID had no dashes."""
    site.stop()
    (record,) = os.listdir(site.directory + "/state/stores")
    path = f"{site.directory}/state/stores/{record}"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    uuid = json.loads(text)["uuid"]
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(uuid, uuid.replace("-", "")))
    site.start()
    assert site.ctl("status")["store"]["uuid"] == uuid


def tab_completion_knows(site):
    """Machines of the ckptd that the line names, and no disks of restores."""
    put_restore(site, "shown", phase="failed", disks=[{"name": "disk0", "overlay": "/nowhere", "server": {"pid": 0}}])
    folder = os.path.dirname(site.command()[0])

    def complete(*words):
        line = " ".join(["ckptctl", *words])
        script = f"PATH={folder}:$PATH; source {ROOT}/ckptd/completion/ckptctl; COMP_WORDS=({line} ''); COMP_CWORD={len(words) + 1}; " \
                 "_ckptctl; printf '%s\\n' \"${COMPREPLY[@]}\""
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    machines = {m["name"] for m in site.ctl("status")["machines"]}
    offered = {word for word in complete("--run-dir", site.run_dir, "status") if not word.startswith("-")}
    assert machines and offered == machines, (offered, machines)
    assert {"--json", "--run-dir"} <= set(complete("status"))
    assert "vm" not in complete("run", "vm", "--"), "after -- come QEMU's words"


def put_restore(site, name, **more):
    """A restore as an earlier ckptd would leave it; its ckptctl is this process."""
    site.stop()
    with open("/proc/self/stat", encoding="ascii") as stat:
        start_time = int(stat.read().rsplit(")", 1)[1].split()[19])
    folder = f"{site.run_dir}/restore/{name}"
    os.makedirs(folder, exist_ok=True)
    state = {"version": 1, "name": name, "source": "vm@1", "mode": "lazy", "phase": "starting", "holder": "restore:" + name,
             "starter": {"pid": os.getpid(), "start_time": start_time}, "agent_argv": [], "disks": [], "agent": {"pid": 0}, "qemu": {"pid": 0}, **more}
    with open(folder + "/state.json.new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.rename(folder + "/state.json.new", folder + "/state.json")
    site.start()
    return folder


def what_is_forgotten_is_gone(site):
    site.ctl("protect", "brief")
    folder = put_restore(site, "brief")
    files = [folder + "/device-state", folder + "/log", site.store + "/machines/brief.working-set"]
    for path in files:
        with open(path, "wb") as file:
            file.write(b"x" * 100)
    assert "restore" in refused(site, BUSY, "forget", "brief")
    assert all(map(os.path.exists, files)) and site.machine("brief")
    # Its ckptctl is gone: the restore has failed, and its device state takes no memory any more.
    put_restore(site, "brief", starter={"pid": os.getpid(), "start_time": 1})
    wait_until(lambda: site.restore_of("brief")["phase"] == "failed", 30, "the restore to fail")
    assert not os.path.exists(files[0]) and os.path.exists(files[1])
    site.ctl("forget", "brief")
    assert not any(map(os.path.exists, (folder, *files))), [path for path in (folder, *files) if os.path.exists(path)]
    assert not [r for r in site.ctl("restores")["restores"] if r["name"] == "brief"]


def what_qemu_refuses_is_undone(site):
    qmp = site.directory + "/qmp"
    assert "nobody answers" in refused(site, UNAVAILABLE, "protect", "late", "--qmp", qmp)
    assert not [m for m in site.ctl("status")["machines"] if m["name"] == "late"], "known though nothing was done"

    def serve(listener):
        """A QEMU that knows no checkpoint-stream."""
        for _ in range(2):
            with listener.accept()[0] as s, s.makefile("rwb", buffering=0) as lines:
                lines.write(b'{"QMP":{}}\n')
                for line in lines:
                    error = b'{"error":{"class":"GenericError","desc":"invalid object type"}}'
                    lines.write(b"%b\n" % (error if b"object-add" in line else b'{"return":{}}'))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(qmp)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        for before, after in (("", "not protected"), ("protect", "waiting")):
            if before:
                site.ctl(before, "late")
            assert "invalid object type" in (text := refused(site, REFUSED, "protect", "late", "--qmp", qmp)), text
            assert site.machine("late")["state"] == after, site.machine("late")
            print(text)
        thread.join()


def a_strange_ckptd_is_an_error(site):
    """What answers at the socket may be anything."""
    run_dir = site.directory + "/strange"
    os.mkdir(run_dir)
    answers = [b'{"ok":true,"more":7}', b'{"ok":true,"store":5,"machines":[1],"restores":[2],"checkpoint":3,"damage":[4]}', b'{"ok":false,"error":1}']
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(run_dir + "/ckptd.sock")
        listener.listen()

        def serve():
            for answer in answers:
                for _ in range(4):
                    with listener.accept()[0] as s:
                        s.makefile("rb").readline()
                        s.sendall(answer + b"\n")
        thread = threading.Thread(target=serve)
        thread.start()
        for answer in answers:
            for command in (("status",), ("show", "vm@1"), ("verify",), ("restores",)):
                done = subprocess.run([*site.command()[:1], "--run-dir", run_dir, *command], capture_output=True, text=True, timeout=60, check=False)
                # What is no answer at all is an error; of one with strange fields the rest may be shown.
                assert (0 if answer == answers[1] else 1) <= done.returncode <= 13, (command, answer, done)
        thread.join()


in_own_namespace()
with Site(interval="50ms") as shared:
    shared.start()
    shared.ctl("protect", "vm")
    code_of_all, output = Generator(shared, ["vm"], "--epochs", "3", "--ram", "1", "--disk", "0").end()
    assert code_of_all == 0, output
    for case in (changes_answer_with_the_new_state, the_newest_is_one_that_is_kept, full_disk_is_said, one_document_a_run, what_is_forgotten_is_gone,
                 what_qemu_refuses_is_undone, every_field_is_documented, rules_are_refused_not_cut, an_older_record_of_the_store_is_understood, tab_completion_knows, a_strange_ckptd_is_an_error):
        case(shared)
        print(case.__name__)
