#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 14400
"""ckptd, QEMU and restore-agent killed at random moments under load, a hundred times each: nothing committed is lost, no guest
hangs. --count, --seed, --only KIND."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "functional", "lib"))
import kills  # noqa: E402

kills.main(default_count=100)
