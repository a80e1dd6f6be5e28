# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test that mounts file systems runs in a mount namespace of its own: however it ends, no mount is left."""
import os
import subprocess
import sys


def in_own_namespace():
    """Start the script again in a mount namespace; without the right to mount, skip it."""
    if os.environ.get("CKPT_OWN_MOUNTS"):
        return
    probe = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        print("needs the right to mount:", probe.stderr.strip())
        sys.exit(77)
    os.environ["CKPT_OWN_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
