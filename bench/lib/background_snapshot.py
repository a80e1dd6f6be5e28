# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own background-snapshot of a machine that is not protected, to nowhere."""
import contextlib
import pathlib
import time


@contextlib.contextmanager
def allowed(guest):
    switch(guest, True)
    # Unlimited: QEMU's default of 1 Gbit/s is for links.
    guest.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
    yield
    switch(guest, False)


def switch(guest, wanted):
    guest.qmp("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": wanted}])


def take(guest):
    """What query-migrate says of it."""
    guest.qmp("migrate", uri="exec:cat >/dev/null")
    while (status := guest.qmp("query-migrate"))["status"] not in ("completed", "failed", "cancelled"):
        time.sleep(0.05)
    assert status["status"] == "completed", status
    wait_cleaned_up(guest)
    return status


def wait_cleaned_up(guest, limit_s=30):
    """QEMU calls a migration completed before it has cleaned up after it, and a new one that begins in between is cleaned up instead: it
    never ends. It closes its file last, and with that ends `cat`, its only child."""
    end = time.monotonic() + limit_s
    process = guest.process.pid
    while pathlib.Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").strip():
        if time.monotonic() > end:
            raise TimeoutError(f"QEMU has not cleaned up {limit_s} s after its background snapshot")
        time.sleep(0.02)
