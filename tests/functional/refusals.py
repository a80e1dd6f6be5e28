#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""Bad input on the command line: each is refused with the right exit status, soon, with a cause and a cure, and nothing is lost."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, Site, wait_until  # noqa: E402
from guest import Guest  # noqa: E402
from oracle import Tap, disconnected, judge  # noqa: E402

NOT_FOUND, EXISTS, INVALID, CORRUPT, BUSY, UNAVAILABLE, REFUSED = 1, 2, 3, 4, 7, 10, 11
LIMIT_S = 30


class Bench:
    """A guest with checkpoints in a store, and what must be there after each refusal."""

    def __init__(self, tap, site, guest):
        self.tap, self.site, self.guest = tap, site, guest

    def start(self):
        self.site.start()
        self.site.run(self.guest, "vm")
        self.guest.wait_ready()
        self.nonce = self.guest.cmd("nonce")
        assert self.guest.cmd("load 16 500 20") == "ok"
        self.low = int(self.guest.cmd("counter"))
        self.named = self.site.ctl("checkpoint", "vm", "--name", "good")["checkpoint"]
        self.site.wait_checkpoints("vm", 2)

    def kept(self):
        return {c["number"] for c in self.site.checkpoints("vm")}

    def refused(self, title, codes, words, *arguments):
        """The command ends with one of the codes, soon, and says each of `words`; no checkpoint and no file is lost or left."""
        codes = codes if isinstance(codes, tuple) else (codes,)
        before, files = self.kept(), images(self.site)
        begin = time.monotonic()
        try:
            done = subprocess.run(self.site.command(*arguments), capture_output=True, text=True, timeout=120, check=False,
                                  stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            self.tap.ok(False, title, "no end within 120 s")
            return
        took_s = time.monotonic() - begin
        text = done.stderr.strip()
        wrong = []
        if done.returncode not in codes:
            wrong.append(f"exit {done.returncode}, wanted {codes}")
        wrong += [f"does not say '{word}'" for word in words if word not in text]
        if took_s > LIMIT_S:
            wrong.append(f"took {took_s:.1f} s")
        if not before <= self.kept():
            wrong.append(f"lost: {before - self.kept()}")
        if images(self.site) != files:
            wrong.append(f"left behind: {images(self.site) ^ files}")
        self.tap.ok(not wrong, title, "\n".join([f"exit {done.returncode} after {took_s:.2f} s: {text[:300]}", *wrong]))


def images(site):
    return {name for name in os.listdir(site.directory) if name.endswith(".qcow2")}


def other_line(guest, change=lambda word: word):
    """The guest's command line with sockets and ports of its own."""
    words = [w.replace("qmp.sock", "odd-qmp.sock").replace("line.sock", "odd-line.sock").replace("console.log", "odd.log")
             for w in guest.command_line(())]
    return [change(w) for w in words]


def points(bench):
    number = max(bench.kept())
    for what, code, words in (("vm@999999", NOT_FOUND, ("no checkpoint 999999", "ckptctl list")),
                              ("vm@never", NOT_FOUND, ("named 'never'", "ckptctl list")),
                              ("vm@-400d", NOT_FOUND, ("oldest kept",)),
                              ("vm@2001-01-01T00:00:00", NOT_FOUND, ("oldest kept",)),
                              ("vm@-3parsecs", INVALID, ("parsecs",)),
                              ("nobody@latest", NOT_FOUND, ("nobody", "ckptctl status")),
                              ("../etc@latest", INVALID, ("../etc",)),
                              ("x" * 300 + "@1", INVALID, ()),
                              (f"vm@{number}9999999999999999999999", NOT_FOUND, ())):
        short = what if len(what) < 40 else what[:20] + "…"
        for verb in ("show", "pin", "verify"):
            bench.refused(f"{verb} {short}", code, words, verb, what)
    bench.refused("restore of an unknown checkpoint", NOT_FOUND, ("no checkpoint 999999",), "restore", "vm@999999", "--as", "odd")
    bench.refused("removing an unknown checkpoint", NOT_FOUND, ("no checkpoint 999999",), "remove", "vm@999999")
    bench.refused("a name that is taken", EXISTS, ("good",), "checkpoint", "vm", "--name", "good")
    bench.refused("a name that is a point", INVALID, ("cannot name",), "checkpoint", "vm", "--name", "-30s")
    bench.refused("a checkpoint of a machine that is not there", NOT_FOUND, ("nobody", "ckptctl status"), "checkpoint", "nobody")
    bench.refused("an interval that is too short", (INVALID,), ("50",), "set", "vm", "interval=1ms")
    bench.refused("retention that is none", (INVALID,), (), "set", "vm", "retention=some:of,that")
    bench.refused("an option that does not exist", (INVALID,), ("--nonsense",), "restore", "vm", "--nonsense")
    bench.refused("a mode that does not exist", (INVALID,), ("hasty",), "restore", "vm", "--mode", "hasty")


def while_it_runs(bench):
    guest = bench.guest
    bench.refused("another machine of the same name", BUSY, ("runs", "stop it"), "run", "vm", "--", *other_line(guest))
    bench.refused("a restore onto a name that runs", BUSY, ("runs", "--as"), "restore", "vm@good")
    bench.refused("forgetting a machine that runs", BUSY, ("stop it",), "forget", "vm")
    bench.refused("a machine named as the daemon", INVALID, ("ckptd",), "protect", "ckptd")
    bench.refused("run without a command line", INVALID, ("--",), "run", "odd")
    bench.refused("run of a program that is not there", NOT_FOUND, ("no-such-qemu",), "run", "odd", "--", "/no-such-qemu", "-m", "64")
    bench.refused("run of a program that is no QEMU", (INVALID, REFUSED), ("/bin/true",), "run", "odd", "--", "/bin/true")
    for option, word in (("-incoming", "leave it out"), ("-loadvm", "leave it out"), ("-readconfig", "options")):
        bench.refused(f"run with {option}", REFUSED, (option, word), "run", "odd", "--", *other_line(guest), option, "x")
    gone = other_line(guest, lambda w: w.replace("disk.raw", "gone.raw"))
    bench.refused("run with a disk that is not there", NOT_FOUND, ("gone.raw", "vd0"), "run", "odd", "--", *gone)


def second_daemon(bench):
    """A store opened twice, and a run directory used twice; the first goes on."""
    site = bench.site
    for title, store, run_dir in (("a store opened twice", site.store, site.directory + "/run2"),
                                  ("a run directory used twice", site.directory + "/store2", site.run_dir)):
        before = site.machine("vm")["epochs_total"]
        begin = time.monotonic()
        process = subprocess.Popen([BUILD + "/ckptd/ckptd", "--store", store, "--run-dir", run_dir, "--state-dir", site.directory + "/state"], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
        try:
            text = process.communicate(timeout=LIMIT_S)[0].strip()
        except subprocess.TimeoutExpired:
            process.kill()
            text = "did not end: " + process.communicate()[0]
        bench.tap.ok(process.returncode == BUSY, title, f"exit {process.returncode} after {time.monotonic() - begin:.2f} s: {text[-300:]}")
        bench.tap.ok(site.machine("vm")["epochs_total"] >= before and site.wait_checkpoints("vm", 1, 30) is not None,
                     f"{title}: the first daemon goes on")


def other_machines(bench):
    """The checkpoint does not fit what is on the command line after '--'."""
    guest, options = bench.guest, ("--disk-dir", bench.site.directory, "--as", "odd")

    def restore(title, codes, words, change, *more):
        bench.refused(title, codes, words, "restore", "vm@good", *options, *more, "--", *other_line(guest, change))

    restore("another machine type", UNAVAILABLE, ("devices it was taken with",), lambda w: "pc" if w == "q35" else w)
    restore("less memory", UNAVAILABLE, ("RAM block 'pc.ram' has 134217728 bytes here", "with the memory it was taken with"), lambda w: "128" if w == str(guest.memory_mib) else w)
    restore("more memory", UNAVAILABLE, ("RAM block 'pc.ram' has 536870912 bytes here", "with the memory it was taken with"), lambda w: "512" if w == str(guest.memory_mib) else w)
    restore("another disk", REFUSED, ("disk 'vd0'", "lacks"), lambda w: w.replace("id=vd0", "id=vd7"))
    restore("another network card", UNAVAILABLE, ("devices it was taken with",), lambda w: w.replace("virtio-net-pci", "e1000e"))
    restore("a QEMU that is not there", NOT_FOUND, ("no-such-qemu",), lambda w: w, "--qemu", "/no-such-qemu")
    bench.refused("a directory for disks that is not there", NOT_FOUND, ("--disk-dir",), "restore", "vm@good", "--as", "odd",
                  "--disk-dir", bench.site.directory + "/nowhere")
    pins = [c["number"] for c in bench.site.checkpoints("vm") if c["pins"]]
    bench.tap.ok(not pins, "no refused restore left a pin", pins or "")
    left = [r for r in bench.site.ctl("restores")["restores"] if r["phase"] not in ("failed", "ended")]
    bench.tap.ok(not left, "nor a restore under way", left or "")


def flip(path, every):
    """Changes one byte in each so many, and gives back what was there."""
    with open(path, "rb") as file:
        content = file.read()
    changed = bytearray(content)
    for at in range(64, len(changed), every):
        changed[at] ^= 0x40
    with open(path, "r+b") as file:
        file.write(changed)
    return content


def damaged_store(bench):
    site = bench.site
    kept = bench.kept()
    site.stop()
    segments = sorted(os.path.join(where, name) for where, _, names in os.walk(site.store) for name in names if "seg" in where or "seg" in name)
    assert segments, f"no segments in {site.store}"
    was = {path: flip(path, 1000) for path in segments}
    site.start()
    try:
        bench.refused("restore from a damaged store", CORRUPT, ("is damaged", "ckptctl verify vm"), "restore", "vm@good", "--as", "odd", "--disk-dir", site.directory)
        done = subprocess.run(site.command("verify", "vm@good"), capture_output=True, text=True, timeout=120, check=False)
        bench.tap.ok(done.returncode == CORRUPT and "segments/0" in done.stdout and "(reached by vm@" in done.stdout,
                     "verify of a damaged store names the damage", f"exit {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
        bench.tap.ok(kept <= bench.kept(), "a damaged store still lists its checkpoints")
    finally:
        site.stop()
        for path, content in was.items():
            with open(path, "r+b") as file:
                file.write(content)
        site.start()
    bench.tap.ok(site.ctl("verify", timeout_s=300)["damage"] == [], "with the bytes back it is whole: nothing was thrown away")


def without_daemon(bench):
    begin = time.monotonic()
    done = subprocess.run([BUILD + "/ckptd/ckptctl", "--json", "--run-dir", bench.site.directory + "/nobody", "status"], capture_output=True,
                          text=True, timeout=LIMIT_S, check=False)
    error = json.loads(done.stdout)["error"]
    bench.tap.ok(done.returncode == UNAVAILABLE and error["number"] == UNAVAILABLE and "ckptd" in error["message"],
                 "no daemon", f"exit {done.returncode} after {time.monotonic() - begin:.2f} s: {error}")


def main():
    tap = Tap()
    with Site(interval="500ms") as site, Guest("linux-small", memory_mib=192, directory=site.directory) as guest:
        bench = Bench(tap, site, guest)
        bench.start()
        for case in (without_daemon, points, while_it_runs, second_daemon):
            case(bench)
        guest.kill()
        disconnected(site, "vm")
        for case in (other_machines, damaged_store):
            case(bench)
        site.restore(guest, "vm@good")
        tap.case("after all of that the checkpoint restores", judge, site, guest, "vm", bench.nonce, bench.low, None)
        wait_until(lambda: site.machine("vm")["connected"], 20, "protection to go on")
    tap.end()


main()
