#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench/run measures, judges and reports: with a real measurement, short, and with figures made up."""
# limit: 900
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import types
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path[:0] = [ROOT + "/bench/lib", ROOT + "/tests/functional/lib", ROOT + "/tests/demo"]
import frame  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import stats  # noqa: E402
from frame import Row, Target  # noqa: E402
from oracle import Tap  # noqa: E402


def run_one():
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([ROOT + "/bench/run", "--quick", "--only", "store_scale", "--out", out, "--json"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        rows = result["measurements"][0]["rows"]
        assert [row["name"] for row in rows if row["floor"] and row["of_floor"] > 0], rows
        with open(out + "/report.md", encoding="utf-8") as file:
            text = file.read()
        assert result["machine"]["revision"] in text and rows[0]["name"] in text
        return f"{len(rows)} rows"


def unknown_name():
    done = subprocess.run([ROOT + "/bench/run", "--only", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no measurement 'nonsense'" in done.stderr, done


def heads():
    """Every measurement says which row it is, what it measures, its floor, its peer and its target; all rows are measured."""
    names, rows = frame.names(), set()
    for name in names:
        module = frame.load(name)
        heads = frame.head_of(module)[1]
        rows |= set(re.findall(r"\d+", heads["Row"]))
        assert heads["Target"].startswith("none") or "if_missed(" in inspect.getsource(module), f"{name} does not say why it would miss its target"
    assert rows >= {str(row) for row in range(1, 15)}, rows
    bad = types.SimpleNamespace(__doc__="Title.\n\nRow: 1.\nMeasured: x.\nFloor: y.\nPeer: z.\n", __file__="bad.py")
    try:
        frame.head_of(bad)
    except ValueError as error:
        assert "Target" in str(error)
    else:
        raise AssertionError("a head without a target passed")
    return ", ".join(names)


def percentiles():
    values = list(range(1, 101))
    assert stats.median(values) == 50.5 and stats.percentile(values, 99) == 99
    assert stats.at(values[:29], 99) is None and stats.at(values[:30], 99) == 30
    assert stats.number(0.01234) == "0.0123" and stats.number(1234.5) == "1,234" and stats.number(12.34) == "12.3"


def targets():
    row = Row("r", "ms", ours=[3.0] * 40, floor=[2.0] * 40, peer=[4.0] * 40)
    assert Target(at_most=1.5, of="floor").met(row) is True
    assert Target(at_most=1.4, of="floor").met(row) is False
    assert Target(at_least=0.8, of="peer").met(row) is False
    assert Target(at_most=3).met(row) is True
    assert Target(at_most=1, percent=99).met(Row("r", "ms", ours=[1.0] * 5)) is None
    row.targets = [Target(at_most=1.4, of="floor")]
    assert "≤ 1.4 × floor: **missed**" in "\n".join(report.table([row]))


def reasons():
    """A reason is given where a target was missed, and only there; the overview counts both."""
    bench = frame.Bench("store_scale", types.SimpleNamespace(quick=True))
    bench.if_missed("it is slow")
    bench.row("met", "ms", [1.0], target=Target(at_most=2))
    assert "it is slow" not in "\n".join(report.measured(bench, []))
    bench.row("missed", "ms", [3.0], target=Target(at_most=2))
    assert "**Missed**: it is slow" in "\n".join(report.measured(bench, []))
    assert any(line.startswith("| 13 | [A store after many epochs](#a-store-after-many-epochs) | 1 | 1 | – |") for line in report.overview([bench]))


def time_limit():
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([ROOT + "/bench/run", "--quick", "--only", "store_scale", "--minutes", "0", "--out", out, "--json"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "--minutes are over" in json.loads(done.stdout)["measurements"][0]["skipped"], done


def plots():
    drawing = plot.svg("a < b", "x", "y", {"one": [(1, 2), (10, 3)], "none": []}, log_x=True)
    tree = xml.etree.ElementTree.fromstring(drawing)
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}polyline")) == 1
    assert plot.svg("nothing", "x", "y", {"one": []}) is None
    assert plot.svg("zero", "x", "y", {"one": [(0, 0)]})


tap = Tap()
tap.case("a measurement, short", run_one)
tap.case("a name that is none", unknown_name)
tap.case("heads", heads)
tap.case("percentiles", percentiles)
tap.case("targets", targets)
tap.case("reasons", reasons)
tap.case("a run whose time is over", time_limit)
tap.case("plots", plots)
tap.end()
