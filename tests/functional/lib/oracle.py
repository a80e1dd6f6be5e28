# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a restored guest must be, from what the guest itself said while it ran, and TAP lines.

    pulse = Pulse(guest)                # asks the guest for its counter over TCP, again and again
    pulse.begin_run(); pulse.start()
    ... checkpoints are made; the machine is lost and restored ...
    low, high = pulse.counter_at(checkpoint["wall_clock_ns"] / 1e9)
    judge(site, guest, nonce, low, high)
"""
import socket
import sys
import threading
import time

from guest import Guest

COUNTS_A_SECOND = 200
# The guest's timer and ours, and the time that an answer takes on a busy host.
COUNT_SLACK = 60
# A connection that QEMU took before the guest ran may wait long for its turn; the next one does not.
ANSWER_LIMIT_S = 0.5


class Pulse(threading.Thread):
    """Samples (asked, answered, counter), in seconds since 1970; a fresh connection each, so that none outlives a machine."""

    def __init__(self, guest, every_s=0.05):
        super().__init__(daemon=True)
        self.port, self.every_s = guest.forwards[7], every_s
        self.samples = []
        self.lock = threading.Lock()
        self.over = threading.Event()

    def ask(self):
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_LIMIT_S) as s:
            s.settimeout(ANSWER_LIMIT_S)
            s.sendall(b"counter\n")
            return int(s.makefile().readline())

    def run(self):
        while not self.over.is_set():
            asked = time.time()
            try:
                counter = self.ask()
                with self.lock:
                    self.samples.append((asked, time.time(), counter))
            except (OSError, ValueError):
                pass
            self.over.wait(self.every_s)

    def begin_run(self, low=0):
        """A machine starts here whose counter is at least `low`: what was heard before says nothing about it."""
        now = time.time()
        with self.lock:
            self.samples.append((now, now, low))

    def counter_at(self, instant):
        """(low, high): the counter at that instant lay between; high is None when the guest was not heard after it."""
        with self.lock:
            before = [c for _, answered, c in self.samples if answered < instant]
            after = [c for asked, _, c in self.samples if asked > instant]
        return (before[-1] if before else 0), (after[0] if after else None)

    def last(self):
        with self.lock:
            return self.samples[-1][2] if self.samples else 0

    def longest_silence_s(self, begin, end=None):
        """The longest time in which the counter was not seen to move."""
        end = end or time.time()
        longest, moved_at, seen = 0.0, begin, None
        with self.lock:
            samples = [s for s in self.samples if begin <= s[1] <= end]
        for _, answered, counter in samples:
            if counter != seen:
                longest, moved_at, seen = max(longest, answered - moved_at), answered, counter
        return max(longest, end - moved_at)

    def wait_move(self, timeout_s, what):
        """Until the guest's counter is heard to go on from now."""
        begin = time.time()
        first = None
        while time.time() - begin < timeout_s:
            with self.lock:
                heard = [c for asked, _, c in self.samples if asked > begin]
            first = heard[0] if heard and first is None else first
            if heard and heard[-1] > first:
                return time.time() - begin
            time.sleep(0.02)
        raise AssertionError(f"the guest's counter did not move within {timeout_s} s: {what}")

    def stop(self):
        self.over.set()
        self.join(10)


def judge(site, guest: Guest, name, nonce, low, high, timeout_s=60):
    """The restored machine `name` is the one it was: same boot, the checkpoint's counter, memory and disk as the guest wrote them."""
    restored = site.restore_of(name)
    guest.wait_ready(timeout_s)
    assert (heard := guest.cmd("nonce", timeout_s=timeout_s)) == nonce, f"nonce {heard}, was {nonce}: booted, not restored"
    counter = int(guest.cmd("counter", timeout_s=timeout_s))
    ran_s = time.time() - restored["begun_ns"] / 1e9 - restored["running_ms"] / 1e3
    assert counter >= low, f"counter {counter}, was {low} before the checkpoint: something is lost"
    if high is not None:
        most = high + ran_s * COUNTS_A_SECOND * 1.05 + COUNT_SLACK
        assert counter <= most, f"counter {counter} after {ran_s:.2f} s, was {high} after the checkpoint: this is a later state"
    answer = guest.cmd("verify", timeout_s=180)
    assert answer.startswith("ok"), answer
    return f"counter {counter} ({low} to {high} at the checkpoint, {ran_s:.1f} s ago), {answer}"


class Tap:
    """Counts; a case that raises is `not ok` and the text is shown."""

    def __init__(self):
        self.number = self.failed = 0

    def ok(self, good, title, text=""):
        self.number += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.number} - {title}", flush=True)
        for line in str(text).splitlines():
            print("#   " + line, flush=True)
        return good

    def case(self, title, function, *arguments):
        """Runs it; what it returns is shown, what it raises too. The truth of it."""
        try:
            return self.ok(True, title, function(*arguments) or "")
        except Exception as error:  # pylint: disable=broad-except
            return self.ok(False, title, f"{type(error).__name__}: {error}")

    def end(self):
        print(f"1..{self.number}", flush=True)
        sys.exit(1 if self.failed or not self.number else 0)


def disconnected(site, name, timeout_s=20):
    """Until ckptd has seen the machine go."""
    end = time.monotonic() + timeout_s
    while site.machine(name)["connected"]:
        assert time.monotonic() < end, f"ckptd still thinks that {name} is connected"
        time.sleep(0.02)
