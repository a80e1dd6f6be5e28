# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest under ckptd, and what each of its epochs cost."""
import time

from ckpt_site import Site, wait_until
from guest import Guest


class Protected:
    """One guest, one ckptd with a store of its own; take away with close()."""

    def __init__(self, bench, interval_ms=1000, guest=None, ports=(7,), **how):
        self.interval_s = interval_ms / 1000
        self.site = Site(interval=f"{interval_ms}ms", retention="all", directory=bench.directory(f"site-{len(bench.rows)}-{time.monotonic_ns()}"))
        self.guest = None
        try:
            self.site.start()
            self.guest = Guest(guest or bench.options.guest, directory=self.site.directory, **how)
            self.site.run(self.guest, "vm", ports=ports)
            self.guest.wait_ready(600)
            self.protected = True
            self.wait_capturing()
        except BaseException:
            self.close()
            raise

    def info(self):
        return self.guest.qmp("query-checkpoint-stream")[0]

    def wait_capturing(self):
        """Until the first, full copy is over and epochs are small."""
        self.site.wait_state("vm", "capturing", 300)
        self.site.wait_checkpoints("vm", 2, 300)

    def interval(self, interval_ms):
        """Another one from now on."""
        self.interval_s = interval_ms / 1000
        self.site.ctl_text("set", "vm", f"interval={interval_ms}ms")

    def load(self, mebibytes, pages, writes=0):
        command = f"load {mebibytes} {pages} {writes}"
        if self.guest.name == "bare":  # has all of its memory to write, and no disk
            command = f"l {pages}" if pages else "p"
        answer = self.guest.cmd(command, timeout_s=300)
        assert answer == "ok", answer

    def epochs(self, count, timeout_s=300):
        """Figures of the next `count` pauses, as QEMU gives them, in turn; looks ten times an epoch and may miss none."""
        pauses, last = [], self.info()["epochs"]
        end = time.monotonic() + timeout_s
        while len(pauses) < count:
            info = self.info()
            if info["epochs"] != last:
                last = info["epochs"]
                pauses.append(info["pause"])
            if time.monotonic() > end:
                raise TimeoutError(f"{len(pauses)} of {count} epochs in {timeout_s} s: {info}")
            time.sleep(0.02)
        return pauses

    def carried(self, count):
        """Bytes that each of the last epochs carried."""
        return [checkpoint["data_bytes"] for checkpoint in self.site.checkpoints("vm")[-count:]]

    def protect(self, wanted):
        """On or off, by adding and removing the object, as an admin would; waits until the copy is complete."""
        if wanted == self.protected:
            return
        if wanted:
            self.guest.qmp("object-add", **self.stream)
            self.wait_capturing()
        else:
            self.stream = {"qom_type": "checkpoint-stream", "id": self.info()["id"], "path": self.site.run_dir + "/vm.sock"}
            self.guest.qmp("object-del", id=self.stream["id"])
            wait_until(lambda: not self.site.machine("vm")["connected"], 30, "vm to be unprotected")
        self.protected = wanted

    def close(self):
        if self.guest:
            self.guest.close()
        self.site.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
