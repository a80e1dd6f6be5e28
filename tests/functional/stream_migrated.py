#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine under capture is migrated: the machine that arrives is the one that left, and is captured there."""
# limit: 300
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from stream_case import Case, run  # noqa: E402

GUEST = {"guest": "bare", "memory_mib": 64, "append": "rate=2000 mib=16"}


def migrated(postcopy):
    with Case(**GUEST) as source, Case(ready=False, extra=["-incoming", "defer"], **GUEST) as target:
        source.epochs(1)
        for machine in (source, target):
            machine.guest.qmp("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": postcopy}])
        address = f"unix:{source.directory}/migration"
        target.guest.qmp("migrate-incoming", uri=address)
        source.guest.qmp("migrate", uri=address)
        if postcopy:
            source.guest.qmp("migrate-start-postcopy")
        end = time.monotonic() + 60
        while source.guest.qmp("query-migrate").get("status") != "completed":
            assert time.monotonic() < end, source.guest.qmp("query-migrate")
            time.sleep(0.02)
        assert "has been migrated" in source.wait_state("suspended")["reason"]
        target.epochs(2)
        target.check_replica()
        return target.check_guest()


def precopy():
    """Live migration, five times."""
    return [migrated(False) for _ in range(5)][-1]


def postcopy():
    """Migration that ends after the machine has moved."""
    return migrated(True)


if __name__ == "__main__":
    sys.exit(run([precopy, postcopy]))
