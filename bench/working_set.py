# SPDX-License-Identifier: LGPL-2.1-or-later
"""Working set.

Row: 11.
Measured: pages that a restored machine had to wait for before its first useful answer, as restore-agent counts them, when it was restored
before (aggressively): the small guest, 1 GiB, half of it in use, until it says who it is; a Debian guest until a page of nginx, a value of Redis
and a row of PostgreSQL have come as well.
Floor: the same checkpoint restored when nothing had been recorded, in turn.
Peer: none: no other restore knows what a machine used; CRIU and QEMU's postcopy are in "Fault-in".
Target: at least 90 % fewer than at the first restore.
"""
import os
import time

from ckpt_site import wait_until
from clients import PostgresClient, RedisClient, WebClient
from frame import Target
from protected import Protected
from restored import agent_status, restore, who_it_is


def run(bench):
    measure(bench, "small guest", lambda nonce: who_it_is(nonce), memory_mib=1024)
    if not bench.quick:
        measure(bench, "Debian guest", services, guest="debian", memory_mib=512, ports=(7, 80, 5432, 6379))
    bench.note("The faults of QEMU itself count, which reads guest memory when it loads the devices.")
    bench.if_missed("What is left is touched sooner than it can be fetched, or for the first time; next: the working set's frames behind one another in the store, "
                    "so that one read brings many.")


def measure(bench, title, answer, **how):
    faults, seconds = {"first": [], "second": []}, {"first": [], "second": []}
    with Protected(bench, **how) as machine:
        guest, site = machine.guest, machine.site
        assert guest.cmd(f"load {machine.guest.memory_mib // 2 if guest.name != 'debian' else 32} 0 0", timeout_s=600) == "ok"
        warm(machine)
        site.wait_checkpoints("vm", 3, 600)
        wait = answer(guest.tcp_cmd("nonce"))
        machine.protect(False)
        guest.kill()
        wait_until(lambda: not site.machine("vm")["connected"], 30, "vm to be lost")
        point = f"vm@{site.checkpoints('vm')[-1]['number']}"
        for number in bench.rounds(3, 1):
            recorded = site.store + "/machines/vm.working-set"
            if os.path.exists(recorded):
                os.unlink(recorded)
            for which in faults:
                disks = bench.directory(f"{guest.name}-{number}-{which}")
                seconds[which].append(restore(machine, point, disks, wait, lambda: faults[which].append(agent_status(site)["faults"])))
                # The agent leaves, and has written down what it saw.
                wait_until(lambda: agent_status(site)["state"] == "done", 120, "memory to be local")
                guest.kill()
                wait_until(lambda: site.restore_of("vm")["phase"] == "ended", 60, "the restore to end")
    bench.row(f"{title}: faults before the first answer; floor: first restore", "faults", faults["second"], floor=faults["first"],
              target=Target(at_most=0.1, of="floor"))
    bench.row(f"{title}: time to the first answer; floor: first restore", "s", seconds["second"], floor=seconds["first"])


def warm(machine):
    if machine.guest.name == "debian":
        for client in clients_of(machine.guest):
            client.step(0)


def clients_of(guest):
    return [RedisClient(guest.forwards[6379]), PostgresClient(guest.forwards[5432]), WebClient(guest.forwards[80])]


def services(nonce):
    """To wait until all services have answered too."""
    def wait(guest, start, failed=lambda: None):
        who_it_is(nonce)(guest, start, failed)
        redis, postgres, web = clients_of(guest)
        assert redis.ask("GET key0").startswith(b"$6")
        assert not postgres.missing([0])
        web.step(0)
        redis.disconnect()
        return time.monotonic() - start
    return wait
