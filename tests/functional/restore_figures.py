#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 600
"""What a restore says of itself: the first useful answer by probes of each kind (TTR), back to normal (BTN), and the service in
between (SL) by the vCPUs' waits and by the probes' answers; over an agent's death, and for a guest that never answers."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from ckpt_site import CtlError, Site, wait_until  # noqa: E402
from guest import Guest, free_port  # noqa: E402


def lose(site, guest):
    guest.kill()
    wait_until(lambda: not site.machine("vm")["connected"], 30, "ckptd to notice")


def wait_phase(site, name, *phases):
    return wait_until(lambda: (r := site.restore_of(name))["phase"] in phases and r, 120, f"{name} to be {phases}")


def lazy_with_probes(site, guest):
    """Every kind of probe, TTR no earlier than the guest's start, and the vCPUs' waits counted."""
    port = guest.forwards[7]
    count = f"exec:bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; echo counter >&3; read -t 2 -u 3 n; [ $n -gt 0 ]'"
    began = time.time()
    answer = site.restore(guest, "vm", ["--mode", "lazy", "--probe", f"tcp:127.0.0.1:{port}=counter", "--probe", count])
    took_ms = (time.time() - began) * 1000
    assert answer["running_ms"] <= answer["ttr_ms"] <= took_ms, (answer, took_ms)
    restore = site.restore_of("vm")
    assert restore["ttr_ms"] == answer["ttr_ms"] == max(p["ttr_ms"] for p in restore["probe"]["probes"]), restore
    assert restore["btn_ms"] is None and restore["service"]["answers_percent"] is None, restore
    assert guest.cmd("verify", timeout_s=120).startswith("ok")
    service = site.restore_of("vm")["agent"]["service"]
    threads = [cpu["thread-id"] for cpu in guest.qmp("query-cpus-fast")]
    assert service["vcpu_threads"] == threads and service["vcpus"] == 2, service
    # A lazy guest has waited, and has worked as well.
    assert 0 < service["waited_us"] < service["counted_us"] * 2, service
    assert 0 < service["level_percent"] < 100, service
    return answer


def an_agent_dies(site, guest):
    """Its successor goes on with the figures, and counts the gap as waited for."""
    before = site.restore_of("vm")
    os.kill(before["agent_pid"], signal.SIGSTOP)  # the guest waits, and nothing is counted by anyone
    time.sleep(1)
    frozen = site.restore_of("vm")["agent"]["service"]
    os.kill(before["agent_pid"], signal.SIGKILL)
    after = wait_until(lambda: (r := site.restore_of("vm"))["agent"].get("taken_over") and r["agent"]["service"], 60, "a takeover")
    assert after["begun_ns"] == frozen["begun_ns"] and after["vcpu_threads"] == frozen["vcpu_threads"], after
    assert after["waited_us"] >= frozen["waited_us"] + 2 * 1_000_000, (frozen, after)
    assert guest.cmd("verify", timeout_s=120).startswith("ok")


def back_to_normal(site, guest):
    site.ctl("finish", "vm")
    restore = wait_phase(site, "vm", "local", "failed", "ended")
    assert restore["btn_ms"] > restore["ttr_ms"], restore
    assert restore["agent_restarts"] == 1, "finish has cost an agent"
    restore = wait_until(lambda: (r := site.restore_of("vm"))["probe"]["state"] == "done" and r, 60, "the probe's end")
    for probe in restore["probe"]["probes"]:
        assert probe["between"]["answers"] > 0 and probe["after"]["answers"] > 0, probe
        assert 0 < probe["level_percent"] <= 100, probe
    levels = [p["level_percent"] for p in restore["probe"]["probes"]]
    assert restore["service"]["answers_percent"] == min(levels), restore
    counted = restore["agent"]["service"]["counted_us"]
    time.sleep(1)
    assert site.restore_of("vm")["agent"]["service"]["counted_us"] == counted, "counted on after its end"
    text = site.ctl_text("restores", "vm")
    assert f"SL {restore['service']['vcpu_percent']:.1f} % of vCPU time" in text and "% of answers" in text, text
    print(text.strip())


def survives_ckptd(site):
    before = site.restore_of("vm")
    site.stop(signal.SIGKILL)
    site.start()
    after = site.restore_of("vm")
    for key in ("running_ms", "ttr_ms", "btn_ms", "service", "probe"):
        assert after[key] == before[key], key


def no_answer(site, guest):
    """A probe that nobody answers: said so with cause, and the machine runs all the same."""
    try:
        site.ctl_text("restore", "vm", "--replace", "--probe", f"tcp:127.0.0.1:{free_port()}=x", "--probe-timeout", "1s")
        raise AssertionError("answered by nobody")
    except CtlError as error:
        assert error.code == 10 and "does not answer within 1 s" in error.text and "Connection refused" in error.text, error
    restore = site.restore_of("vm")
    assert restore["phase"] in ("running", "streaming", "local") and restore["ttr_ms"] is None, restore
    site.adopt(restore["qemu_pid"])
    for bad in ("udp:1", "tcp:host", "http://"):
        try:
            site.ctl_text("restore", "vm", "--probe", bad)
            raise AssertionError(f"{bad} was taken")
        except CtlError as error:
            assert error.code == 3 and "give tcp:HOST:PORT" in error.text, error
    os.kill(restore["qemu_pid"], signal.SIGKILL)
    wait_phase(site, "vm", "ended")


def main():
    with Site(interval="500ms") as site, Guest("linux-small", cpus=2, directory=site.directory) as guest:
        site.start()
        site.run(guest, "vm")
        guest.wait_ready()
        assert guest.cmd("load 32 1000 50") == "ok"
        site.wait_checkpoints("vm", 3)
        lose(site, guest)
        lazy_with_probes(site, guest)
        an_agent_dies(site, guest)
        back_to_normal(site, guest)
        survives_ckptd(site)
        lose(site, guest)
        no_answer(site, guest)


main()
