"""Small drawings of the page: a difference with its interval, beside zero."""

from __future__ import annotations

from markupsafe import Markup

from replay.compare.statistics import Difference
from replay.report.axes import Axis
from replay.report.plots import rule, svg

_WIDTH, _HEIGHT = 150.0, 18.0


def interval(one: Difference) -> Markup:
    """The interval as a line and the difference as a dot, on an axis of its own with zero in the middle."""
    step = one.interval
    reach = max(abs(step.low), abs(step.high), abs(step.value), 1e-12) * 1.1
    x, middle = Axis(-reach, reach, 2, _WIDTH - 2), _HEIGHT / 2
    tone = "real" if one.real else "alone" if one.interval.excludes_zero else "chance"
    dot = Markup('<circle cx="{}" cy="{}" r="3.5" class="step {}"/>').format(x.at(step.value), middle, tone)
    parts = [
        rule(x.at(0), 1, x.at(0), _HEIGHT - 1, "grid"),
        rule(x.at(step.low), middle, x.at(step.high), middle, tone),
    ]
    title = f"difference {step.value:+.4g}, interval {step.low:+.4g} to {step.high:+.4g}"
    return svg(_WIDTH, _HEIGHT, title, *parts, dot)
