# SPDX-License-Identifier: LGPL-2.1-or-later
"""virsh save and virsh restore, as they are: what an admin has without us."""
import time

from libvirt_site import Domain, LibvirtSite


def restores(memory_mib, load_mib, count):
    """Seconds from `virsh restore` to the answer of a machine that was saved and destroyed, over its serial port."""
    seconds = []
    # In a directory of its own: QEMU's user cannot look into the bench's.
    with LibvirtSite() as site:
        site.start_libvirtd()
        # Without the element the launcher is QEMU and nothing else.
        domain = Domain(site, "stock", protection=None, guest="linux-small", memory_mib=memory_mib)
        site.define(domain)
        site.virsh("start", "stock")
        domain.started().wait_ready()
        assert domain.cmd(f"load {load_mib} 0 0", timeout_s=600) == "ok"
        nonce = domain.cmd("nonce")
        site.virsh("save", "stock", "/var/lib/libvirt/stock.save", timeout_s=600)
        for _ in range(count):
            domain.disconnect()
            start = time.monotonic()
            site.virsh("restore", "/var/lib/libvirt/stock.save", timeout_s=600)
            domain.started()
            wait_nonce(domain, nonce)
            seconds.append(time.monotonic() - start)
            # Not shut down: it is restored once more from the same file.
            site.virsh("destroy", "stock")
        domain.close()
    return seconds


def wait_nonce(domain, nonce, limit_s=60):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if domain.cmd("nonce", timeout_s=0.3) == nonce:
                return
        except (OSError, TimeoutError):
            domain.disconnect()
    raise TimeoutError(f"the restored domain did not answer in {limit_s} s")
