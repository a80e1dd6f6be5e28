#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# limit: 7200
"""tests/functional/every_checkpoint.py with a hundred checkpoints."""
import os
import sys

os.environ.setdefault("CKPT_CHECKPOINTS", "100")
TEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "functional", "every_checkpoint.py")
os.execv(sys.executable, [sys.executable, TEST])
