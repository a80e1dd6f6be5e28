#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tests/run counts what passes, fails, skips, hangs and crashes, and says so."""
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPTS = {
    "passes.sh": "exit 0",
    "skips.sh": "echo first line; echo no such device; exit 77",
    "fails.sh": "echo broken here; exit 3",
    "hangs.sh": "# limit: 1\nsleep 600 & echo $! > child; wait",
    "crashes.sh": "echo 'ok 1 - fine so far'; kill -SEGV $$",
    "counts.sh": "echo 'ok 1 - a'; echo '# because of d'; echo 'not ok 2 - b'; echo 'ok 3 - c # SKIP no d'; exit 1",
    "lacks.sh": "echo 1..3; echo 'ok 1 - all'; echo 'ok 2 - but one'",
    "plans.sh": "echo 1..1; echo 'ok 1 - once'; echo 1..1; echo 'ok 1 - twice'",
}
WANTED_LAST = "7 passed, 5 failed, 2 skipped"


def run(root, *options):
    return subprocess.run(["/usr/bin/python3", root + "/tests/run", *options], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def alive(pid):
    """Whether the process still runs; one that waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


with tempfile.TemporaryDirectory() as root:
    os.makedirs(root + "/tests/functional")
    shutil.copy(ROOT + "/tests/run", root + "/tests/run")
    for name, text in SCRIPTS.items():
        path = f"{root}/tests/functional/{name}"
        with open(path, "w", encoding="utf-8") as script:
            script.write("#!/bin/bash\n" + text + "\n")
        os.chmod(path, 0o755)
    result = run(root)
    print(result.stdout)
    assert result.stdout.splitlines()[-1] == WANTED_LAST
    assert result.returncode == 1
    assert "skipped: functional/skips: no such device" in result.stdout
    assert "skipped: functional/counts c: no d" in result.stdout
    assert "failed: functional/counts b: because of d" in result.stdout.splitlines()
    assert "3 cases planned, 2 came" in result.stdout
    assert "broken here" in result.stdout and "signal 11" in result.stdout
    with open(root + "/child", encoding="ascii") as child:
        pid = int(child.read())
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid), "what a hanging test started must not outlive it"

    # A googletest program without a case, as after a filter that fits none.
    loader = importlib.machinery.SourceFileLoader("run", root + "/tests/run")
    runner = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
    loader.exec_module(runner)
    empty = runner.Test("unit", "empty", ["true"], 60, True, gtest=True)
    os.makedirs(root + "/build/test-logs", exist_ok=True)
    runner.run(empty, root + "/build")
    assert empty.cases == [(runner.FAIL, "", "no cases")], empty.cases

    assert run(root, "--only", "passes").returncode == 0
    nothing = run(root, "--only", "no such test")
    assert nothing.returncode != 0 and "nothing ran" in nothing.stdout
