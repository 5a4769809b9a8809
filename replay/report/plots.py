"""Small plots as inline SVG, coloured by the page's style sheet so that they follow light and dark.

Everything is put together with `Markup.format`, which escapes what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from replay.report.axes import Axis, spanning
from replay.results.answers import Calibration

WIDTH, HEIGHT = 560, 250
_LEFT, _RIGHT, _BOTTOM = 40, 16, 34
_BINS = 36


@dataclass(frozen=True, slots=True)
class Series:
    """Values drawn as one histogram; `style` is the CSS class of its bars."""

    name: str
    values: Sequence[float]
    style: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line with a name: a budget, a median, a rival. `style` is its CSS class."""

    name: str
    value: float
    style: str


def svg(width: float, height: float, title: str, *parts: Markup) -> Markup:
    """One drawing that scales with its place; `title` is what a screen reader says."""
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        round(width, 1), round(height, 1), title, Markup("").join(parts)
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> Markup:
    """Words at a position."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), round(y, 1), style, anchor, words
    )


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1), style
    )


def bar(x: float, y: float, width: float, height: float, style: str, tip: str) -> Markup:
    """A rectangle that tells `tip` under the pointer."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"><title>{}</title></rect>').format(
        round(x, 2), round(y, 2), round(max(width, 0.0), 2), round(max(height, 0.0), 2), style, tip
    )


def histogram(
    title: str,
    series: Sequence[Series],
    marks: Sequence[Mark],
    label: Callable[[float], str],
    tick: Callable[[float], str],
    *,
    log: bool = False,
) -> Markup:
    """Counts of each series in common bins, with marks; `label` writes a value, `tick` one on the axis.

    Without values, a note.
    """
    everything = [float(v) for one in series for v in one.values]
    if not everything:
        return Markup('<p class="none">{}</p>').format("Nothing was measured.")
    low, high = spanning([*everything, *(mark.value for mark in marks)], log=log)
    top = 20 + 17 * max(len(marks), 1 if len(series) > 1 else 0)
    x = Axis(low, high, _LEFT, WIDTH - _RIGHT, log)
    edges = x.edges(_BINS)
    counts = [np.histogram(np.clip(one.values, low, high), edges)[0] for one in series]
    y = Axis(0, float(max(c.max() for c in counts)), HEIGHT - _BOTTOM, top)
    parts = [*_frame(x, y, tick), *(_legend(series) if len(series) > 1 else ())]
    for one, heights in zip(series, counts, strict=True):
        for index in np.flatnonzero(heights):
            left, right = x.at(edges[index]), x.at(edges[index + 1])
            tip = f"{one.name}: {heights[index]} from {label(edges[index])} to {label(edges[index + 1])}"
            place = y.at(heights[index])
            parts.append(bar(left + 0.5, place, right - left - 1, HEIGHT - _BOTTOM - place, f"bar {one.style}", tip))
    parts += _marks(x, marks, label)
    return svg(WIDTH, HEIGHT, title, *parts)


def _frame(x: Axis, y: Axis, label: Callable[[float], str]) -> list[Markup]:
    parts = []
    for value in y.ticks(4):
        if value == int(value):
            parts += [
                rule(x.start, y.at(value), x.end, y.at(value), "grid"),
                text(x.start - 6, y.at(value) + 4, f"{value:.0f}", "tick", "end"),
            ]
    return [*parts, *(text(x.at(v), HEIGHT - _BOTTOM + 17, label(v), "tick", "middle") for v in x.ticks())]


def _legend(series: Sequence[Series]) -> list[Markup]:
    parts, left = [], float(_LEFT)
    for one in series:
        parts += [bar(left, 5, 10, 10, f"bar {one.style}", one.name), text(left + 15, 14, one.name, "note")]
        left += 15 + 9 * len(one.name) + 14
    return parts


def _marks(x: Axis, marks: Sequence[Mark], label: Callable[[float], str]) -> list[Markup]:
    parts = []
    for row, mark in enumerate(sorted(marks, key=lambda one: -one.value)):
        place, high = x.at(mark.value), 14.0 + 17 * row
        flip = place > WIDTH * 0.62
        parts += [
            rule(place, high - 9, place, HEIGHT - _BOTTOM, f"mark {mark.style}"),
            text(
                place + (-5 if flip else 5), high, f"{mark.name} {label(mark.value)}", f"note {mark.style}",
                "end" if flip else "start",
            ),
        ]  # fmt: skip
    return parts


def counted(title: str, values: Sequence[int], style: str) -> Markup:
    """A bar for each whole number that occurs, from 1 up."""
    if not values:
        return Markup('<p class="none">{}</p>').format("Nothing was measured.")
    numbers, counts = np.unique(np.asarray(values), return_counts=True)
    x = Axis(0.5, float(numbers[-1]) + 0.5, _LEFT, WIDTH - _RIGHT)
    y = Axis(0, float(counts.max()), HEIGHT - _BOTTOM, 20)
    wide = (x.end - x.start) / (x.high - x.low)
    parts = [
        bar(x.at(n) - wide * 0.4, y.at(c), wide * 0.8, y.start - y.at(c), f"bar {style}", f"{c} times {n}")
        for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    return svg(WIDTH, HEIGHT, title, *_frame(x, y, lambda v: f"{v:.0f}" if v == int(v) else ""), *parts)


def reliability(title: str, calibration: Calibration) -> Markup:
    """Accuracy over confidence, a dot a bin as large as its answers are many, beside the diagonal of honesty."""
    if not calibration.n:
        return Markup('<p class="none">{}</p>').format("No answers with a known truth.")
    side, left, bottom = 300.0, 44.0, 40.0
    x, y = Axis(0, 1, left, side - 12), Axis(0, 1, side - bottom, 12)
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        shown = f"{100 * value:.0f}"
        parts += [
            rule(x.start, y.at(value), x.end, y.at(value), "grid"),
            rule(x.at(value), y.start, x.at(value), y.end, "grid"),
            text(x.start - 6, y.at(value) + 4, shown, "tick", "end"),
            text(x.at(value), y.start + 16, shown, "tick", "middle"),
        ]
    parts.append(rule(x.at(0), y.at(0), x.at(1), y.at(1), "diagonal"))
    for one in calibration.bins:
        parts.append(rule(x.at(one.confidence), y.at(one.confidence), x.at(one.confidence), y.at(one.accuracy), "miss"))
    for one in calibration.bins:
        tip = f"{one.n} answers: {100 * one.confidence:.0f} % sure, {100 * one.accuracy:.0f} % right"
        parts.append(
            Markup('<circle cx="{}" cy="{}" r="{}" class="dot"><title>{}</title></circle>').format(
                x.at(one.confidence), y.at(one.accuracy), round(3 + 9 * (one.n / calibration.n) ** 0.5, 1), tip
            )
        )
    parts.append(text((x.start + x.end) / 2, side - 6, "how sure the reviewer was, %", "label", "middle"))
    parts.append(
        Markup('<text transform="translate(11 {}) rotate(-90)" class="label" text-anchor="middle">{}</text>').format(
            (y.start + y.end) / 2, "how often it was right, %"
        )
    )
    return svg(side, side, title, *parts)
