# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL at random moments under load: ckptd, QEMU, restore-agent and nbdkit; nothing committed is lost and no guest hangs.

    kills.main(default_count=4)

The moments come from a seed that is printed; --seed replays them (what the host is doing meanwhile it cannot replay).
"""
import argparse
import json
import os
import random
import signal
import time

from ckpt_site import Site, alive, wait_until
from guest import Guest
from oracle import Pulse, Tap, disconnected, judge

MEMORY_MIB = 192
# 2 MiB a second in 64 MiB that are all in use: what was dirtied in a while is told from a full copy.
LOAD = "load 64 500 40"
FULL_COPY_BYTES = 64 << 20
# A guest under TCG on a busy host, seen from outside; a hang is for ever.
SILENCE_LIMIT_S = 8
# Its agent is dead and the next one waits its turn: ckptd's longest back-off is 5 s.
AGENT_LIMIT_S = 30


class Ordeal:
    """A protected guest under load, and what is known of it."""

    def __init__(self, rng, interval="500ms"):
        self.rng = rng
        self.site = Site(interval=interval)
        self.guest = Guest("linux-small", memory_mib=MEMORY_MIB, directory=self.site.directory)

    def __enter__(self):
        try:
            self.site.start()
            self.site.run(self.guest, "vm")
            self.guest.wait_ready()
            self.nonce = self.guest.cmd("nonce")
            assert self.guest.cmd(LOAD) == "ok"
            self.pulse = Pulse(self.guest)
            self.pulse.begin_run()
            self.pulse.start()
            self.site.wait_state("vm", "capturing")
            self.site.wait_checkpoints("vm", 2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        if hasattr(self, "pulse"):
            self.pulse.stop()
        self.guest.close()
        self.site.close()

    def random_moment(self, most_s):
        moment_s = self.rng.uniform(0, most_s)
        time.sleep(moment_s)
        return moment_s

    def kept(self):
        return self.site.checkpoints("vm")

    def lose_machine(self):
        self.guest.kill()
        disconnected(self.site, "vm")

    def restore(self, mode):
        """The newest checkpoint runs again; its bounds."""
        newest = self.kept()[-1]
        low, high = self.pulse.counter_at(newest["wall_clock_ns"] / 1e9)
        answer = self.site.restore(self.guest, f"vm@{newest['number']}", ["--mode", mode, "--replace"])
        self.pulse.begin_run(low)
        return low, high, answer

    def whole(self):
        """Every checkpoint of the store reads back."""
        damage = self.site.ctl("verify", timeout_s=1200)["damage"]
        assert damage == [], damage
        return f"{len(self.kept())} checkpoints"


def lost(before, after):
    """What was listed before and is not, or not the same, after."""
    now = {c["number"]: c for c in after}
    same = ("number", "parent", "wall_clock_ns", "data_bytes")
    return [c for c in before if c["number"] not in now or any(c[k] != now[c["number"]][k] for k in same)]


def check_goes_on(ordeal, before):
    """New checkpoints come, on top of the old ones, without a full copy."""
    after = ordeal.kept()
    assert not (gone := lost(before, after)), f"committed and lost: {gone}"
    last = after[-1]["number"]
    try:
        fresh = wait_until(lambda: [c for c in ordeal.kept() if c["number"] > last], 60, "a new checkpoint")[0]
    except TimeoutError as error:
        said = [ordeal.site.machine("vm")["state"], str(ordeal.guest.qmp("query-checkpoint-stream")), ordeal.site.log_text()[-600:]]
        raise AssertionError("\n".join([str(error), *said])) from error
    assert fresh["parent"] == f"vm@{last}", f"{fresh} does not continue vm@{last}"
    assert fresh["data_bytes"] < FULL_COPY_BYTES, f"a full copy: {fresh['data_bytes']} bytes"
    return fresh


def kill_ckptd_once(ordeal):
    moment_s = ordeal.random_moment(1.5)
    before = ordeal.kept()
    begin = time.time()
    pid = ordeal.site.process.pid
    ordeal.site.stop(signal.SIGKILL)
    assert not alive(pid)
    away_s = ordeal.random_moment(1.0)
    ordeal.site.start()
    fresh = check_goes_on(ordeal, before)
    ordeal.pulse.wait_move(SILENCE_LIMIT_S, "after ckptd was killed")
    silence_s = ordeal.pulse.longest_silence_s(begin)
    assert silence_s < SILENCE_LIMIT_S, f"the guest stood still for {silence_s:.1f} s"
    return (f"after {moment_s:.2f} s, away {away_s:.2f} s; vm@{fresh['number']} carried {fresh['data_bytes'] >> 10} KiB, "
            f"longest silence {silence_s:.2f} s")


def hang_ckptd_once(ordeal, seconds):
    """It neither answers nor reads: the guest must not care."""
    before = ordeal.kept()
    begin = time.time()
    ordeal.site.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        silence_s = ordeal.pulse.longest_silence_s(begin)
    finally:
        ordeal.site.process.send_signal(signal.SIGCONT)
    assert silence_s < min(SILENCE_LIMIT_S, seconds), f"the guest stood still for {silence_s:.1f} s"
    fresh = check_goes_on(ordeal, before)
    return f"hung {seconds:.1f} s; vm@{fresh['number']} carried {fresh['data_bytes'] >> 10} KiB, longest silence {silence_s:.2f} s"


def judge_running(ordeal):
    nonce, answer = ordeal.guest.cmd("nonce", timeout_s=60), ordeal.guest.cmd("verify", timeout_s=180)
    assert nonce == ordeal.nonce and answer.startswith("ok"), (nonce, ordeal.nonce, answer)
    return answer


def kill_ckptd(tap, rng, count):
    with Ordeal(rng) as ordeal:
        for i in range(count):
            if not tap.case(f"ckptd killed, {i + 1} of {count}", kill_ckptd_once, ordeal):
                break
        for i in range(max(1, count // 10)):
            tap.case(f"ckptd hangs, {i + 1}", hang_ckptd_once, ordeal, rng.uniform(3, 12))
        tap.case("the guest of a ckptd that died again and again is as it should be", judge_running, ordeal)
        tap.case("and the store reads back whole", ordeal.whole)
        ordeal.lose_machine()
        low, high, _ = ordeal.restore("lazy")
        tap.case("and its newest checkpoint restores", judge, ordeal.site, ordeal.guest, "vm", ordeal.nonce, low, high)


def kill_qemu_once(ordeal):
    moment_s = ordeal.random_moment(2.5)
    before = ordeal.kept()
    ordeal.lose_machine()
    assert not (gone := lost(before, ordeal.kept())), f"committed and lost: {gone}"
    low, high, answer = ordeal.restore(ordeal.rng.choice(["lazy", "aggressive", "full"]))
    text = judge(ordeal.site, ordeal.guest, "vm", ordeal.nonce, low, high)
    return f"after {moment_s:.2f} s; {answer['source']} {answer['mode']}, guest ran after {answer['running_ms']} ms; {text}"


def kill_qemu(tap, rng, count):
    with Ordeal(rng) as ordeal:
        for i in range(count):
            if not tap.case(f"QEMU killed, {i + 1} of {count}", kill_qemu_once, ordeal):
                print("# " + ordeal.site.log_text()[-1000:].replace("\n", "\n# "), flush=True)
        tap.case("protection goes on", lambda: str(ordeal.site.wait_checkpoints("vm", 2)["epochs_total"]))
        tap.case("the store reads back whole", ordeal.whole)


def kill_agent_once(ordeal, also_server):
    """Kills the agent of a lazy restore, and the disk's server too when asked; the guest waits, a new one takes over."""
    moment_s = ordeal.random_moment(1.5)
    site = ordeal.site
    restore = site.restore_of("vm")
    assert restore["phase"] == "running", restore
    old, begin = restore["agent_pid"], time.time()
    victims = [old] + ([server_pid(site)] if also_server else [])
    for pid in victims:
        assert alive(pid), f"process {pid} had gone by itself: {restore}"
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (r := site.restore_of("vm"))["agent_pid"] != old and alive(r["agent_pid"]), AGENT_LIMIT_S, "a new agent")
    ordeal.pulse.wait_move(AGENT_LIMIT_S, "after restore-agent was killed")
    assert ordeal.guest.cmd("nonce", timeout_s=AGENT_LIMIT_S) == ordeal.nonce
    silence_s = ordeal.pulse.longest_silence_s(begin)
    missing = site.restore_of("vm")["agent"]
    return f"after {moment_s:.2f} s, longest silence {silence_s:.2f} s; {show_missing(missing)}"


def show_missing(agent):
    return ", ".join(f"{key} {agent[key]}" for key in ("state", "taken_over", "pages_present", "pages_total") if key in agent)


def server_pid(site):
    with open(site.run_dir + "/restore/vm/state.json", encoding="utf-8") as file:
        return json.load(file)["disks"][0]["server"]["pid"]


def kill_agent(tap, rng, count):
    """Each lazy restore loses its agent a few times, is verified, and then lost itself."""
    with Ordeal(rng) as ordeal:
        done = 0
        while done < count:
            ordeal.lose_machine()
            low, high, answer = ordeal.restore("lazy")
            ordeal.guest.wait_ready(60)
            for _ in range(min(rng.randint(1, 4), count - done)):
                done += 1
                also_server = rng.random() < 0.3
                tap.case(f"restore-agent{' and nbdkit' if also_server else ''} killed, {done} of {count}", kill_agent_once, ordeal, also_server)
            tap.case(f"the guest of {answer['source']} is as it should be", judge, ordeal.site, ordeal.guest, "vm", ordeal.nonce, low, high)
            ordeal.site.wait_checkpoints("vm", 2)
        tap.case("all becomes local", finish, ordeal)
        tap.case("and the guest is as it should be", judge_running, ordeal)
        tap.case("the store reads back whole", ordeal.whole)


def finish(ordeal):
    ordeal.site.ctl("finish", "vm")
    restore = wait_until(lambda: (r := ordeal.site.restore_of("vm"))["phase"] in ("local", "failed", "ended") and r, 180,
                         f"all to be local: {ordeal.site.log_text()}")
    assert restore["phase"] == "local", restore
    return f"{restore['agent_restarts']} agents replaced, back to normal after {restore['btn_ms']} ms"


KINDS = {"ckptd": kill_ckptd, "qemu": kill_qemu, "agent": kill_agent}


def main(default_count):
    parser = argparse.ArgumentParser(description="SIGKILL at random moments under load")
    parser.add_argument("--count", type=int, default=int(os.environ.get("CKPT_KILLS", default_count)), help="kills of each kind")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CKPT_SEED", "0")), help="replays the moments of a run; 0: a new one")
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind")
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randint(1, 2**31)
    print(f"# seed {seed}: --seed {seed} or CKPT_SEED={seed} replays it", flush=True)
    tap = Tap()
    for kind, function in KINDS.items():
        if options.only in (None, kind):
            try:
                function(tap, random.Random(f"{seed} {kind}"), options.count)
            except Exception as error:  # pylint: disable=broad-except
                tap.ok(False, f"{kind}: the ordeal could go on", f"{type(error).__name__}: {error}")
    tap.end()
