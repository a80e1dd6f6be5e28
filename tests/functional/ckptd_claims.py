#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# parallel
"""A restore's name is one starter's from its first moment: of several at once one wins and no other touches what is its own, and
whatever ends, the starter or ckptd, at whatever step, neither a pin stays nor a guest that runs is killed. Agents and QEMU are
stand-ins."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import BUILD, Site, alive, wait_until  # noqa: E402
from generator import Generator, ask  # noqa: E402

SLEEP = ["/usr/bin/sleep", "3600"]
ROUNDS = 30
LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
# A starter: it begins a restore, says its token, and lives on.
BEGIN = """import sys, time
sys.path.insert(0, sys.argv[1])
from generator import ask
class Site: run_dir = sys.argv[2]
answer = ask(Site, verb='restore_begin', machine='a', point='2', **{'as': 'b'})
print(answer['token'] if answer['ok'] else answer, flush=True)
time.sleep(3600)
"""


def identity(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return {"pid": pid, "start_time": int(stat.read().rsplit(")", 1)[1].split()[19])}


def begin(site, number=2, name="b"):
    return ask(site, verb="restore_begin", machine="a", point=str(number), **{"as": name})


def abandon(site, token, name="b"):
    return ask(site, verb="restore_abandon", token=token, **{"as": name})


def pins(site):
    return {(c["number"], holder) for c in site.checkpoints("a") for holder in c["pins"]}


def record(site, name="b"):
    with open(f"{site.run_dir}/restore/{name}/state.json", encoding="utf-8") as file:
        return json.load(file)


def one_wins(site):
    for _ in range(ROUNDS):
        answers = []
        threads = [threading.Thread(target=lambda n=n: answers.append((n, begin(site, n)))) for n in (2, 3, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [(number, answer) for number, answer in answers if answer["ok"]]
        assert len(won) == 1 and len(answers) == 4, answers
        assert all("is under way" in answer["error"]["message"] for _, answer in answers if not answer["ok"]), answers
        number, answer = won[0]
        assert pins(site) == {(number, "restore:b")}
        with open(answer["directory"] + "/base.json", encoding="utf-8") as file:
            assert json.load(file)["base"] == answer["base"]
        for token in ("", "0" * 32):
            assert not abandon(site, token)["ok"]
        state = dict(record(site), source="a@1")
        assert not ask(site, verb="restore_update", token="0" * 32, state=state)["ok"]
        assert not ask(site, verb="restore_update", token=answer["token"], state=state)["ok"], "another checkpoint than the pinned one"
        assert pins(site) == {(number, "restore:b")} and site.restore_of("b")["phase"] == "starting"
        assert abandon(site, answer["token"])["ok"] and pins(site) == set()
        assert not abandon(site, answer["token"])["ok"], "a restore that is over was touched"
    print(f"{ROUNDS} times four at once: one won each time")


class Starter:
    """A process that has begun a restore, and with it what it started."""

    def __init__(self, site, qmp_status=None):
        self.site, self.processes, self.server = site, [], None
        self.process = subprocess.Popen([sys.executable, "-c", BEGIN, LIB, site.run_dir], stdout=subprocess.PIPE, text=True)
        self.token = self.process.stdout.readline().strip()
        assert len(self.token) == 32, self.token
        self.qemu, self.agent = (self.start() for _ in range(2))
        self.qmp_status, self.memory = qmp_status, "waiting-for-agent"

    def start(self):
        self.processes.append(subprocess.Popen(SLEEP))
        return self.processes[-1].pid

    def tell(self, phase):
        state = dict(record(self.site), phase=phase, qemu=identity(self.qemu), agent=identity(self.agent), agent_argv=SLEEP, agent_status="",
                     qmp=self.site.run_dir + "/b.qmp")
        answer = ask(self.site, verb="restore_update", token=self.token, state=state)
        assert answer["ok"], answer

    def serve_qmp(self):
        """QEMU's monitor: one client after the other, each answer the same status."""
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.site.run_dir + "/b.qmp")
        self.server.listen(8)
        threading.Thread(target=self.answer_all, daemon=True).start()

    def answer_all(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw", encoding="utf-8") as lines:
                print(json.dumps({"QMP": {}}), file=lines, flush=True)
                for line in lines:
                    value = {"status": self.qmp_status} if "query-status" in line else \
                        {"state": self.memory} if "query-checkpoint-restore" in line else {}
                    print(json.dumps({"return": value}), file=lines, flush=True)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def has_nothing_left(self):
        return not alive(self.qemu) and not alive(self.agent)

    def end(self):
        self.kill()
        for process in self.processes:
            process.kill()
            process.wait()
        if self.server:
            self.server.shutdown(socket.SHUT_RDWR)
            self.server.close()
            os.unlink(self.site.run_dir + "/b.qmp")


def phase_of(site, phases):
    return wait_until(lambda: (r := site.restore_of("b"))["phase"] in phases and r, 30, f"the restore to be {phases}: {site.log_text()}")


def starter_dies(site):
    """At every step before the guest runs: all is ended, nothing stays pinned, and the name is free at once."""
    for steps in ([], ["starting"], ["starting", "resuming"]):
        starter = Starter(site, "paused")
        try:
            starter.serve_qmp()
            for step in steps:
                starter.tell(step)
            assert knows_b(site) == ("resuming" in steps), "a machine that never ran is protected, or one that was to run is not"
            starter.kill()
            if steps != ["starting", "resuming"]:
                answer = begin(site)
                assert answer["ok"], answer
                assert not steps or starter.has_nothing_left(), "the dead starter's processes live on"
                assert pins(site) == {(2, "restore:b")}
                assert abandon(site, answer["token"])["ok"]
            else:
                assert "ckptctl ended" in phase_of(site, ("failed",))["reason"]
                wait_until(starter.has_nothing_left, 30, "QEMU and agent to be ended, as the guest never ran")
            assert pins(site) == set() and not knows_b(site)
        finally:
            starter.end()


def knows_b(site):
    return "b" in [m["name"] for m in site.ctl("status")["machines"]]


def name_is_put_back(site):
    """A restore that fails when its guest was about to run, also with another ckptd: the name's configuration and protection are what
    they were."""
    own = {"version": 1, "argv": ["own"]}

    def is_now(protected):
        with open(site.store + "/machines/b.json", encoding="utf-8") as file:
            kept = json.load(file)
        return kept["config"] == own and kept["protected"] == protected and os.path.exists(site.run_dir + "/b.sock") == protected

    assert ask(site, verb="protect", machine="b", config=own)["ok"]
    for protected in (True, False):
        if not protected:
            site.ctl("unprotect", "b")
        for restarts in (False, True):
            starter = Starter(site)
            try:
                starter.tell("starting")
                assert is_now(protected)
                os.mkdir(f"{site.run_dir}/restore/b/state.json.new")
                try:
                    starter.tell("resuming")
                except AssertionError:
                    pass
                else:
                    raise AssertionError("what could not be written down was taken")
                finally:
                    os.rmdir(f"{site.run_dir}/restore/b/state.json.new")
                assert is_now(protected), "it is protected for a guest that is not to run"
                assert abandon(site, starter.token)["ok"]
            finally:
                starter.end()
            starter = Starter(site)
            try:
                starter.tell("starting")
                starter.tell("resuming")
                assert not is_now(protected)
                if restarts:
                    site.stop(signal.SIGKILL)
                    site.start()
                assert abandon(site, starter.token)["ok"] and is_now(protected), (protected, restarts)
            finally:
                starter.end()
    site.ctl("forget", "b")
    print("what failed at the last step has changed nothing of its name")


def starter_dies_early(site):
    """While ckptd still prepares its restore, here because the device state goes where nobody reads: the name is not free before that is
    over, and then nothing stays."""
    folder = site.run_dir + "/restore/b"
    os.makedirs(folder, exist_ok=True)
    path = folder + "/device-state"
    os.mkfifo(path)
    reader = os.open(path, os.O_PATH)
    starter = subprocess.Popen([sys.executable, "-c", BEGIN, LIB, site.run_dir], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: pins(site) == {(2, "restore:b")}, 30, "the restore to be prepared")
    finally:
        starter.kill()
        starter.wait()
    answer = begin(site, 3)
    assert not answer["ok"] and "under way" in answer["error"]["message"], answer
    with open(f"/proc/self/fd/{reader}", "rb") as device_state:
        assert device_state.read(), "the device state was not written"
    os.close(reader)
    phase_of(site, ("failed",))
    assert pins(site) == set() and not os.path.exists(path) and not os.path.exists(folder + "/base.json")


def ckptd_dies(site):
    """And comes back: a restore that has begun is its starter's still, until that one ends."""
    starter = Starter(site)
    try:
        site.stop(signal.SIGKILL)
        site.start()
        assert site.restore_of("b")["phase"] == "starting" and pins(site) == {(2, "restore:b")}
        starter.tell("starting")
        site.stop(signal.SIGKILL)
        starter.kill()
        site.start()
        phase_of(site, ("failed",))
        wait_until(starter.has_nothing_left, 30, "QEMU and agent to be ended")
        assert pins(site) == set()
    finally:
        starter.end()


def guest_runs(site):
    """`cont` was sent, and nobody could say so any more: QEMU is asked, and its guest lives."""
    starter = Starter(site, "running")
    try:
        starter.tell("starting")
        starter.tell("resuming")
        starter.kill()
        time.sleep(2)
        assert alive(starter.qemu) and site.restore_of("b")["phase"] == "resuming", "a QEMU that does not answer was given up"
        starter.serve_qmp()
        phase_of(site, ("running",))
        assert alive(starter.qemu) and pins(site) == {(2, "restore:b")}
        record_cannot_be_saved(site)
        ckptd_dies_with_the_next_agent(site)
        probe_sees_it_run(site)
        # No agent has ever said a word; one that is not needed any more leaves.
        starter.memory = "done"
        console_floods(site)
        phase_of(site, ("local",))
        console_floods(site)
        wait_until(lambda: not alive(site.restore_of("b")["agent_pid"]), 30, "the last agent to be ended")
        assert pins(site) == set()
    finally:
        starter.end()
    phase_of(site, ("ended",))
    assert pins(site) == set()


def console_floods(site):
    """Of what is printed into a restore's log the last stays, and what appends to it goes on."""
    path = f"{site.run_dir}/restore/b/log"
    with open(path, "ab", buffering=0) as log:
        for text in (b"earlier", b"later"):
            log.write(b"." * (3 << 20) + text)
            wait_until(lambda: os.path.getsize(path) == 0, 30, "the log to be cut")
            wait_until(lambda t=text: os.path.exists(path + ".old") and read(path + ".old").endswith(t), 30, "its end to be kept")
            assert len(read(path + ".old")) == 1 << 20
        log.write(b"more")
        assert read(path).endswith(b"more") and os.path.getsize(path) < 1 << 20


def read(path):
    with open(path, "rb") as file:
        return file.read()


def probe_sees_it_run(site):
    """The record's file has the number of one that was read before, as it may on file systems that use numbers again."""
    directory = site.directory + "/b"
    os.mkdir(directory)
    state = dict(record(site), phase="starting", probes=["tcp:127.0.0.1:1=never"], probe_timeout_ms=100)

    def write(phase):
        with open(directory + "/state.json", "w", encoding="utf-8") as file:
            json.dump(dict(state, phase=phase), file)

    def said():
        try:
            with open(directory + "/probe.json", encoding="utf-8") as file:
                return json.load(file)["state"]
        except OSError:
            return ""
    write("starting")
    probe = subprocess.Popen([BUILD + "/ckptd/restore-probe", directory])
    try:
        wait_until(lambda: said() == "waiting", 30, "the probe to wait")
        probe.send_signal(signal.SIGSTOP)
        write("running")
        probe.send_signal(signal.SIGCONT)
        wait_until(lambda: said() == "no answer", 30, "the probe to see that the guest runs")
    finally:
        probe.kill()
        probe.wait()


def record_cannot_be_saved(site):
    """One new agent for one that died, however long its number cannot be written down."""
    in_the_way = f"{site.run_dir}/restore/b/state.json.new"
    os.mkdir(in_the_way)
    before = site.restore_of("b")
    os.kill(before["agent_pid"], signal.SIGKILL)
    wait_until(lambda: "is not saved" in site.log_text(), 30, "ckptd to notice that it cannot save")
    time.sleep(1)
    now = site.restore_of("b")
    assert now["agent_restarts"] == before["agent_restarts"] + 1 and alive(now["agent_pid"]), now
    os.rmdir(in_the_way)
    wait_until(lambda: record(site)["agent"]["pid"] == now["agent_pid"], 30, "the record to be saved")


def script(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path


def forked_only(process):
    """Processes that were forked from this one, which may have ended, and have become no other program yet."""
    command = "".join(word + "\0" for word in process.args).encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(name) != process.pid and alive(int(name)) and read(f"/proc/{name}/cmdline") == command:
                found.append(int(name))
        except OSError:
            pass  # it has ended
    return found


def nothing_runs_unrecorded(site):
    """ckptctl dies when it has made the agent's process and ckptd, which hangs, has not heard of it: that process never becomes an agent."""
    site.ctl("protect", "disked")
    code, text = Generator(site, ["disked"], "--epochs", "2", "--ram", "1", "--disk", "1").end()
    assert code == 0, text
    folder = site.directory + "/stand-ins"
    os.mkdir(folder)
    qemu = script(folder + "/qemu", "exec sleep 3600\n")
    # What makes the disk's image comes just before the agent.
    script(folder + "/qemu-img", f"for word; do case $word in {folder}/*) : >\"$word\" ;; esac; done\nkill -STOP {site.process.pid}\n")
    agent = script(folder + "/agent", f"echo $$ >{folder}/ran\nexec sleep 3600\n")
    starter = subprocess.Popen(site.command("restore", "disked", "--as", "b", "--disk-dir", folder, "--", qemu, "-drive", "file=/d,id=disk0"),
                               env=dict(os.environ, CKPT_RESTORE_AGENT=agent, CKPT_NBDKIT_PLUGIN=agent), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: starter.poll() is not None or os.path.exists(folder + "/ran") or forked_only(starter), 30, "the agent's process")
        assert starter.poll() is None, starter.stderr.read()
        time.sleep(0.5)  # what may run too early has the time for it
        of_agent = forked_only(starter)
        starter.kill()
        site.stop(signal.SIGKILL)
        wait_until(lambda: not forked_only(starter), 30, "the agent's process to end")
    finally:
        starter.kill()
        starter.wait()
        starter.stderr.close()
        if os.path.exists(folder + "/ran"):
            os.kill(int(read(folder + "/ran")), signal.SIGKILL)
    assert of_agent and not os.path.exists(folder + "/ran"), "an agent ran of which ckptd had not heard"
    site.start()
    phase_of(site, ("failed",))
    site.ctl("forget", "disked")


def ckptd_dies_with_the_next_agent(site):
    """It has made that one's process and hangs in writing it down: the process never becomes an agent that nobody knows of."""
    in_the_way = f"{site.run_dir}/restore/b/state.json.new"
    os.mkfifo(in_the_way)
    process = site.process
    os.kill(record(site)["agent"]["pid"], signal.SIGKILL)
    try:
        forked = wait_until(lambda: forked_only(process), 30, "the next agent's process")
    finally:
        site.stop(signal.SIGKILL)
    # By its number: its command line goes before what it has open, the store's lock with it.
    wait_until(lambda: not any(alive(pid) for pid in forked), 30, "it to end")
    os.unlink(in_the_way)
    site.start()
    wait_until(lambda: alive(record(site)["agent"]["pid"]), 30, "an agent")


def host_restarts(site):
    """RUN_DIR is gone then; a pin that no restore has is dropped, all others stay."""
    starter = Starter(site)
    try:
        site.ctl("pin", "a@3")
        assert pins(site) == {(2, "restore:b"), (3, "admin")}
        answer = ask(site, verb="pin", machine="a", point="3", holder="restore:mine")
        assert not answer["ok"] and "a restore's own" in answer["error"]["message"], answer
        site.stop(signal.SIGKILL)
        shutil.rmtree(site.run_dir)
        site.start()
        assert pins(site) == {(3, "admin")}
    finally:
        starter.end()


def original_lives(site):
    """Not started by ckptctl and not connected just now, it is its name's owner all the same."""
    original = Generator(site, ["a"], "--epochs", "1000000", "--ram", "2", "--disk", "0")
    try:
        site.wait_checkpoints("a", 1)
        os.kill(original.process.pid, signal.SIGSTOP)
        site.stop(signal.SIGKILL)
        site.start()
        assert not site.machine("a")["connected"]
        answer = begin(site, "latest", "a")
        assert not answer["ok"] and f"runs as process {original.process.pid}" in answer["error"]["message"], answer
        assert all(holder == "admin" for _, holder in pins(site))
    finally:
        original.kill()
    answer = begin(site, "latest", "a")
    assert answer["ok"], answer
    assert abandon(site, answer["token"], "a")["ok"]


with Site(interval="50ms") as shared:
    shared.start()
    shared.ctl("protect", "a")
    try:
        status, text = Generator(shared, ["a"], "--epochs", "4", "--ram", "2", "--disk", "0").end()
        assert status == 0, text
        for case in (one_wins, starter_dies, name_is_put_back, starter_dies_early, ckptd_dies, nothing_runs_unrecorded, guest_runs, host_restarts, original_lives):
            case(shared)
    except BaseException:
        print(shared.log_text())
        raise
