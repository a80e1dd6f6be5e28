# SPDX-License-Identifier: LGPL-2.1-or-later
"""Samples and what is said of them."""
import math

PERCENTILE_NEEDS = 30  # fewer samples have no percentile worth quoting


def percentile(values, percent):
    """Nearest rank: always a value that was seen."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def at(values, percent):
    """The median, or the percentile where there are enough samples, else None."""
    if not values:
        return None
    if percent == 50:
        return median(values)
    return percentile(values, percent) if len(values) >= PERCENTILE_NEEDS else None


def summary(values):
    """As it stands in report.json."""
    if not values:
        return None
    return {"n": len(values), "p50": median(values), "p99": at(values, 99), "min": min(values), "max": max(values)}


def number(value):
    """Three digits that count, as people write them."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def thinned(values, most=1000):
    """The same distribution in fewer values: for plots and files."""
    ordered = sorted(values)
    if len(ordered) <= most:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]
