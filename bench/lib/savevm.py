# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own savevm: memory and devices of a machine in a qcow2 file, the machine stopped meanwhile."""
import os
import time

NODE = "savevm"


class Snapshots:
    """For a guest that is not protected; the file is away afterwards."""

    def __init__(self, guest, directory):
        self.guest, self.path, self.count = guest, directory + "/savevm.qcow2", 0

    def __enter__(self):
        self.job("blockdev-create", "made", options={"driver": "file", "filename": self.path, "size": 0})
        self.guest.qmp("blockdev-add", driver="file", filename=self.path, node_name=NODE + "-file")
        self.job("blockdev-create", "formatted", options={"driver": "qcow2", "file": NODE + "-file", "size": 0})
        self.guest.qmp("blockdev-add", driver="qcow2", file=NODE + "-file", node_name=NODE)
        return self

    def __exit__(self, *unused):
        for node in (NODE, NODE + "-file"):
            self.guest.qmp("blockdev-del", node_name=node)
        os.unlink(self.path)

    def save(self):
        """Milliseconds that the machine stood still, by QEMU's clock: the guest's own stands still with it."""
        self.count += 1
        self.guest.qmp_connection.events.clear()
        self.job("snapshot-save", f"saved-{self.count}", tag=f"point{self.count}", vmstate=NODE, devices=[NODE])
        at = {name: self.guest.qmp_connection.wait_event(name)["timestamp"] for name in ("STOP", "RESUME")}
        return (at["RESUME"]["seconds"] - at["STOP"]["seconds"]) * 1000 + (at["RESUME"]["microseconds"] - at["STOP"]["microseconds"]) / 1000

    def job(self, command, name, limit_s=120, **arguments):
        self.guest.qmp(command, job_id=name, **arguments)
        end = time.monotonic() + limit_s
        while True:
            # While it saves, QEMU answers nothing.
            job = next(job for job in self.guest.qmp("query-jobs", timeout_s=limit_s) if job["id"] == name)
            if job["status"] == "concluded":
                break
            if time.monotonic() > end:
                raise TimeoutError(f"{command} takes longer than {limit_s} s")
            time.sleep(0.05)
        self.guest.qmp("job-dismiss", id=name)
        if "error" in job:
            raise RuntimeError(f"{command}: {job['error']}")
