# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest under capture by a stand-in for ckptd, the replica check, and TAP lines.

    with Case(memory_mib=128, extra=[...]) as case:
        case.load(); case.epochs(3); case.check_replica()
"""
import os
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT + "/tests/functional/lib", ROOT + "/tests/qemu"]
from fake_agent import read_ram  # noqa: E402
from guest import Guest, qemu_dir  # noqa: E402
from stream_peer import Peer  # noqa: E402


def differing_pages(one, other):
    return [i for i in range(0, max(len(one), len(other)), 4096) if one[i:i + 4096] != other[i:i + 4096]]


class Case:
    """`guest` and `peer`; more arguments go to Guest, those of `peer_with` to Peer. `arguments`
    takes the guest and QEMU's arguments and returns others."""

    def __init__(self, extra=(), stream="", peer_with=None, listening=True, capture=True, ready=True,
                 arguments=None, **how):
        self.directory = tempfile.mkdtemp(prefix="ckpt-stream-")
        self.socket = self.directory + "/stream.sock"
        self.stream = f"checkpoint-stream,id=ck0,path={self.socket}{stream}"
        self.peer = Peer(self.socket, **(peer_with or {}))
        if not listening:
            self.peer.close()
        self.guest = Guest(how.pop("guest", "linux-small"), **how)
        self.images = {}
        if arguments:
            given = self.guest.command_line
            self.guest.command_line = lambda ports=(7,): arguments(self.guest, given(ports))
        try:
            self.guest.start([*(["-object", self.stream] if capture else []), *extra])
            if ready:
                self.guest.wait_ready()
        except BaseException:
            self.close()
            raise

    def add_object(self):
        self.guest.qmp("object-add", qom_type="checkpoint-stream", id="ck0", path=self.socket)

    def info(self):
        return self.guest.qmp("query-checkpoint-stream")[0]

    def wait_state(self, state, timeout_s=20):
        end = time.monotonic() + timeout_s
        while (info := self.info())["state"] != state:
            assert time.monotonic() < end, info
            time.sleep(0.02)
        return info

    def epochs(self, count, every_s=0.3):
        pauses = []
        for _ in range(count):
            time.sleep(every_s)
            pauses.append(self.peer.take()["pause_us"])
        return pauses

    def disk_images(self):
        """{name in the stream: path of a raw image with what the disk holds}."""
        images = {}
        for number, (path, disk_format) in enumerate(self.guest.disks):
            if disk_format != "raw":
                raw = self.directory + f"/{number}.raw"
                subprocess.check_call([qemu_dir() + "/qemu-img", "convert", "-U", "-f", disk_format,
                                       "-O", "raw", path, raw])
                path = raw
            images[f"vd{number}"] = path
        images.update(self.images)
        return images

    def qemu_io(self, disk, command):
        """A request of `disk` (device id or its QOM path) as if the guest had made it."""
        answer = self.guest.qmp("human-monitor-command", **{"command-line": f'qemu-io -d {disk} "{command}"'})
        assert "rror" not in answer, (disk, command, answer)

    def check_replica(self, resume=True, ignore=()):
        """Stop the machine, close an epoch, compare everything; returns the epoch's figures."""
        self.guest.qmp("stop")
        figures = self.peer.take()
        assert figures["run_state"] == 2, figures
        self.compare(ignore)
        if resume:
            self.guest.qmp("cont")
        return figures

    def compare(self, ignore=()):
        """RAM and disks of a machine that stands still are those of its last epoch."""
        ram = read_ram(self.guest)
        replica = self.peer.objects
        for (kind, name), content in replica.items():
            if kind == "ram":
                live = ram.pop(name)
                assert len(content) >= len(live) and not any(content[len(live):]), name
                if content[:len(live)] != live:
                    pages = differing_pages(content[:len(live)], live)
                    raise AssertionError(f"{name}: {len(pages)} pages differ, first {pages[:8]}")
            elif kind == "disk" and name not in ignore:
                with open(self.disk_images()[name], "rb") as image:
                    live = image.read()
                if live != content:
                    pages = differing_pages(content, live)
                    raise AssertionError(f"disk {name}: sizes {len(content)} {len(live)}, "
                                         f"{len(pages)} pages differ, first {pages[:8]}")
        assert not ram, f"not in the stream: {sorted(ram)}"
        left = set(self.disk_images()) - {name for kind, name in replica if kind == "disk"} - set(ignore)
        assert not left, f"not in the stream: {sorted(left)}"

    def check_guest(self):
        answer = self.guest.cmd("verify", timeout_s=60)
        assert answer.startswith("ok"), answer
        return answer

    def close(self):
        log = ""
        if self.guest.process:
            log = self.guest.qemu_log()
        self.guest.close()
        self.peer.close()
        for name in os.listdir(self.directory):
            os.unlink(os.path.join(self.directory, name))
        os.rmdir(self.directory)
        if self.peer.error:
            raise self.peer.error
        return log

    def quit(self):
        """End QEMU as a user does; it must exit cleanly and at once."""
        start = time.monotonic()
        try:
            self.guest.qmp("quit")
        except OSError:
            pass
        code = self.guest.process.wait(10)
        assert code == 0, (code, self.guest.qemu_log())
        return time.monotonic() - start

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def guest_goes_on(case, seconds=2.0):
    """The guest's counter moves, and the monitor answers at once."""
    before = int(case.guest.cmd("counter"))
    start = time.monotonic()
    slowest = 0.0
    while time.monotonic() - start < seconds:
        asked = time.monotonic()
        case.info()
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.02)
    assert int(case.guest.cmd("counter")) > before + 50 * seconds
    assert slowest < 1, f"the monitor answered after {slowest:.2f} s"


class Skip(Exception):
    """Not possible on this machine; the text says why."""


def needs_kvm():
    """A KVM that runs the bare guest: one that exists may still hang it."""
    told = subprocess.run([ROOT + "/scripts/kvm-probe", "bare"], capture_output=True, text=True, check=True)
    if "bare=yes" not in told.stdout:
        raise Skip(f"no KVM: {told.stderr.strip()}")


def run(cases, only=None):
    """Run the functions as TAP cases, named by their docstrings; exit status."""
    only = only or sys.argv[1:]
    chosen = [case for case in cases if not only or any(word in case.__name__ for word in only)]
    print(f"1..{len(chosen)}", flush=True)
    failed = 0
    for number, case in enumerate(chosen, 1):
        title = (case.__doc__ or case.__name__).split("\n")[0].rstrip(".")
        start = time.monotonic()
        try:
            note = case()
            print(f"# {note}" if note else "#", f"({time.monotonic() - start:.1f} s)")
            print(f"ok {number} - {title}", flush=True)
        except Skip as why:
            print(f"ok {number} - {title} # SKIP {why}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print("# " + traceback.format_exc().replace("\n", "\n# "))
            # The last line is what tests/run says at its end.
            print(f"# {type(error).__name__}: {error}".splitlines()[0])
            print(f"not ok {number} - {title}", flush=True)
    return 1 if failed else 0
