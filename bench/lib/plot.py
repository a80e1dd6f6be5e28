# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines and points as SVG; nothing but text."""
import math
from xml.sax.saxutils import escape

import stats

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 40, 50
# Told apart also by those who do not see colours alike (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


class Axis:
    """Values to pixels, and where its ticks are."""

    def __init__(self, values, pixels, log):
        self.log, self.pixels = log, pixels
        low, high = min(values), max(values)
        if log:
            low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.low, self.high = low, max(high, low + 1)
            self.ticks = [10.0 ** i for i in range(self.low, self.high + 1)]
        else:
            step = nice_step(max(high, 1e-9))
            self.low, self.high = 0, step * max(1, math.ceil(high / step))
            self.ticks = [step * i for i in range(round(self.high / step) + 1)]

    def at(self, value):
        place = math.log10(value) if self.log else value
        share = (place - self.low) / (self.high - self.low)
        return self.pixels[0] + share * (self.pixels[1] - self.pixels[0])


def nice_step(high):
    """1, 2 or 5 times a power of ten: four to ten of them up to `high`."""
    power = 10.0 ** math.floor(math.log10(high / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if high / (power * factor) <= 8)


def text(x, y, words, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def grid(x_axis, y_axis, x, y, title):
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    yield text(LEFT, 24, title, "start", 'font-size="15" font-weight="bold"')
    for tick in x_axis.ticks:
        place = x_axis.at(tick)
        yield f'<path d="M{place:.1f} {TOP}V{bottom}" stroke="#ddd"/>'
        yield text(place, bottom + 18, stats.number(tick))
    for tick in y_axis.ticks:
        place = y_axis.at(tick)
        yield f'<path d="M{LEFT} {place:.1f}H{right}" stroke="#ddd"/>'
        yield text(LEFT - 8, place + 4, stats.number(tick), "end")
    yield text((LEFT + right) / 2, HEIGHT - 10, x)
    yield text(16, (TOP + bottom) / 2, y, more=f'transform="rotate(-90 16 {(TOP + bottom) / 2:.1f})"')


def line(points, colour, marks):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points if marks else ():
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


def svg(title, x, y, series, log_x=False, log_y=False):
    """`series`: {name: [(x, y), …]}. Values that a logarithm does not have are left out."""
    series = {name: [(a, b) for a, b in points if (a > 0 or not log_x) and (b > 0 or not log_y)]
              for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    x_axis = Axis([a for points in series.values() for a, _ in points], (LEFT, WIDTH - RIGHT), log_x)
    y_axis = Axis([b for points in series.values() for _, b in points], (HEIGHT - BOTTOM, TOP), log_y)
    parts = list(grid(x_axis, y_axis, x, y, title))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts += line([(x_axis.at(a), y_axis.at(b)) for a, b in points], colour, len(points) <= 40)
        row = TOP + 12 + 20 * number
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {row - 4}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(WIDTH - RIGHT + 36, row, name, "start"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')
