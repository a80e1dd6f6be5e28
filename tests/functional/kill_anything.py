#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 900
"""ckptd, QEMU and restore-agent killed at random moments under load, a few times each; tests/soak/kill_anything.py does it
a hundred times. --count, --seed, --only KIND."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import kills  # noqa: E402

kills.main(default_count=4)
