# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a real guest in a real store, for what is measured without the guest itself."""
import contextlib
import os

import frame
import restore


@contextlib.contextmanager
def saved_guest(bench, memory_mib=512, load="load 200 2000 0"):
    """A guest that booted, worked for a while and was stored: `images` holds its ram+NAME, agent() serves it."""
    restore.BUILD = bench.build
    if not os.path.exists(restore.built("restore-agent")):
        raise frame.Skip("restore-agent is not built")
    load = "load " + bench.options.load if bench.options.load else load
    with restore.Saved(memory_mib=memory_mib, load=load, guest=bench.options.guest) as saved:
        saved.images = saved.directory + "/checkpoint"
        saved.data_bytes = sum(len(block) - 4096 * zero_pages(block) for block in saved.ram.values())
        saved.ram = None  # the images hold it too
        yield saved


def zero_pages(block):
    zero = bytes(4096)
    return sum(block[at:at + 4096] == zero for at in range(0, len(block), 4096))
