# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own background-snapshot of a machine that is not protected, to nowhere."""
import contextlib
import time

from guest import QmpError


@contextlib.contextmanager
def allowed(guest):
    switch(guest, True)
    # Unlimited: QEMU's default of 1 Gbit/s is for links.
    guest.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
    yield
    switch(guest, False)
    # The end of a migration is announced a moment after it is "completed": a stream added in between would take it for its own.
    time.sleep(1)


def switch(guest, wanted):
    after_migration(guest, "migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": wanted}])


def take(guest):
    """What query-migrate says of it."""
    after_migration(guest, "migrate", uri="exec:cat >/dev/null")
    while (status := guest.qmp("query-migrate"))["status"] not in ("completed", "failed", "cancelled"):
        time.sleep(0.05)
    assert status["status"] == "completed", status
    return status


def after_migration(guest, command, **arguments):
    """QEMU calls a migration completed shortly before it takes such commands again."""
    for tries_left in reversed(range(100)):
        try:
            guest.qmp(command, **arguments)
            return
        except QmpError:
            if not tries_left:
                raise
            time.sleep(0.05)
