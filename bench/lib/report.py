# SPDX-License-Identifier: LGPL-2.1-or-later
"""report.md, report.json and the plots, of measurements that have run."""
import json
import os

import plot
import stats


def spread(values, unit):
    if not values:
        return "–"
    tail = stats.at(values, 99)
    more = f", p99 {stats.number(tail)}" if tail is not None else ""
    return f"{stats.number(stats.median(values))} {unit} ({stats.number(min(values))} … {stats.number(max(values))}{more})"


def verdict(row):
    texts = []
    for target in row.targets:
        met = target.met(row)
        texts.append(target.text(row.unit) + (": met" if met else ": **missed**" if met is not None else ": too few samples"))
    return "; ".join(texts) or "–"


def ratio(row, of):
    value = row.ratio(of)
    tail = row.ratio(of, 99)
    return "–" if value is None else f"{stats.number(value)} ×" + (f", p99 {stats.number(tail)} ×" if tail is not None else "")


def table(rows):
    columns = [("", lambda row: row.name), ("N", lambda row: str(len(row.ours))),
               ("ours: median (min … max)", lambda row: spread(row.ours, row.unit))]
    if any(row.floor for row in rows):
        columns += [("floor", lambda row: spread(row.floor, row.unit)), ("ours / floor", lambda row: ratio(row, "floor"))]
    if any(row.peer for row in rows):
        columns += [("peer", lambda row: spread(row.peer, row.unit)), ("ours / peer", lambda row: ratio(row, "peer"))]
    if any(row.targets for row in rows):
        columns += [("target", verdict)]
    yield "| " + " | ".join(name for name, _ in columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(cell(row) for _, cell in columns) + " |"


def measured(bench, plots):
    yield f"## {bench.title}"
    yield ""
    for name, text in bench.heads.items():
        yield f"- **{name}**: {text}"
    yield ""
    if bench.skipped:
        yield f"Not measured: {bench.skipped}."
    if bench.rows:
        yield from table(bench.rows)
    for note in bench.notes + [f"**Missed**: {reason}" for reason in bench.reasons if False in bench.verdicts()]:
        yield ""
        yield note
    for title, path in plots:
        yield ""
        yield f"![{title}]({path})"
    yield ""
    yield f"`bench/run --only {bench.name}`, {bench.seconds:.0f} s."
    yield ""


def overview(benches):
    """Where each row is, and what it took."""
    yield "| row | | targets met | missed | too few samples | takes |"
    yield "|---|---|---|---|---|---|"
    for bench in benches:
        verdicts = bench.verdicts()
        cells = [str(verdicts.count(which) or "–") for which in (True, False, None)]
        yield f"| {bench.heads['Row'].rstrip('.')} | [{bench.title}](#{anchor(bench.title)}) | {' | '.join(cells)} | {bench.seconds:.0f} s |"
    verdicts = [verdict for bench in benches for verdict in bench.verdicts()]
    yield (f"| | together | {verdicts.count(True)} | {verdicts.count(False)} | {verdicts.count(None)} | "
           f"{sum(bench.seconds for bench in benches) / 60:.1f} min |")


def anchor(title):
    """As Markdown's renderers make it of a head."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def markdown(machine, command, benches, plots):
    yield "# Performance"
    yield ""
    yield (f"Written by `{command}` on {machine['date']} at revision {machine['revision']}: {machine['cpus']} CPUs ({machine['cpu']}), "
           f"{machine['memory_gib']} GiB, {machine['system']}, kernel {machine['kernel']}.")
    busy = machine["busy_before"], machine["busy_after"]
    yield ""
    yield (f"Other work used {busy[0]:.0%} of the CPUs just before and {busy[1]:.0%} just after."
           + (" **The machine was shared while this was measured**: compare ratios, and distrust maxima and p99."
              if max(busy) > 0.1 else ""))
    yield ""
    if benches and benches[0].quick:
        yield "**A quick run**: few samples, which show that it works rather than how fast it is. The full one: `make bench`."
        yield ""
    yield ("Every figure stands beside its floor, measured in turn with it in the same run. Ratios count: absolute times are this "
           f"machine's. A percentile is quoted from {stats.PERCENTILE_NEEDS} samples on.")
    yield ""
    yield from overview(benches)
    yield ""
    for bench in benches:
        yield from measured(bench, plots[bench.name])


def as_json(machine, command, benches):
    def one(bench):
        rows = [{"name": row.name, "unit": row.unit, "ours": stats.summary(row.ours), "floor": stats.summary(row.floor),
                 "peer": stats.summary(row.peer), "of_floor": row.ratio("floor"), "of_peer": row.ratio("peer"),
                 "targets": [{"text": target.text(row.unit), "met": target.met(row)} for target in row.targets],
                 "samples": stats.thinned(row.ours, 200)} for row in bench.rows]
        return {"name": bench.name, "row": bench.heads["Row"].rstrip("."), "title": bench.title, "skipped": bench.skipped, "seconds": round(bench.seconds, 1),
                "rows": rows, "notes": bench.notes, "reasons": bench.reasons}
    return {"version": 1, "command": command, "machine": machine, "measurements": [one(bench) for bench in benches]}


def write(directory, machine, command, benches):
    os.makedirs(directory, exist_ok=True)
    plots = {}
    for bench in benches:
        plots[bench.name] = []
        for number, spec in enumerate(bench.plots, 1):
            drawing = plot.svg(**spec)
            if drawing:
                name = f"{bench.name}-{number}.svg"
                with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                    file.write(drawing)
                plots[bench.name].append((spec["title"], name))
    result = as_json(machine, command, benches)
    with open(f"{directory}/report.json", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
    text = "\n".join(markdown(machine, command, benches, plots))
    with open(f"{directory}/report.md", "w", encoding="utf-8") as file:
        file.write(text)
    return result, text
