# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a real guest in a real store, for what is measured without the guest itself."""
import contextlib
import os

import frame
import restore


def load_of(bench, load):
    """As the command line has it, or as the measurement wants it."""
    return "load " + bench.options.load if bench.options.load else load


@contextlib.contextmanager
def saved_guest(bench, memory_mib=512, load="load 200 2000 0"):
    """A guest that booted, worked for a while and was stored: `images` holds its ram+NAME, agent() serves it."""
    restore.BUILD = bench.build
    if not os.path.exists(restore.built("restore-agent")):
        raise frame.Skip("restore-agent is not built")
    load = load_of(bench, load)
    with restore.Saved(memory_mib=memory_mib, load=load, guest=bench.options.guest) as saved:
        saved.images = saved.directory + "/checkpoint"
        saved.data_bytes = sum(len(block) - 4096 * zero_pages(block) for block in saved.ram.values())
        saved.ram = None  # the images hold it too
        yield saved


def zero_pages(block):
    zero = bytes(4096)
    return sum(block[at:at + 4096] == zero for at in range(0, len(block), 4096))


def data_pages(guest, directory, limit):
    """A file of what is not zero of a guest's memory, and how many pages that is."""
    whole, some = directory + "/memory", directory + "/pages"
    guest.qmp("pmemsave", timeout_s=120, val=0, size=guest.memory_mib << 20, filename=whole)
    kept, zero = 0, bytes(4096)
    with open(whole, "rb") as memory, open(some, "wb") as pages:
        while kept < limit and (page := memory.read(4096)):
            if page != zero:
                pages.write(page)
                kept += 1
    os.unlink(whole)
    return some, kept
