"""Axes for drawn plots: values to positions, and readable ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.types import Float64Array

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` laid out from `start` to `end` (pixels); logarithmic if `log`, then positive."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Position of a value; values outside lie on the nearer end."""
        low, high, value = self._scaled(self.low), self._scaled(self.high), self._scaled(value)
        part = (value - low) / (high - low) if high > low else 0.0
        return round(self.start + (self.end - self.start) * min(1.0, max(0.0, part)), 2)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round values inside the axis, about `wanted` of them."""
        if not self.log:
            step = nice_step((self.high - self.low) / max(1, wanted))
            first = int(np.ceil(self.low / step - 1e-9))
            return [round(i * step, 10) for i in range(first, int(np.floor(self.high / step + 1e-9)) + 1)]
        decades = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
        digits = (1, 2, 5) if len(decades) <= 4 else (1,)
        values = [digit * 10.0**decade for decade in decades for digit in digits]
        return [value for value in values if self.low <= value <= self.high]

    def edges(self, count: int) -> Float64Array:
        """Borders of `count` bins of equal width on the page."""
        if self.log:
            return np.geomspace(self.low, self.high, count + 1)
        return np.linspace(self.low, self.high, count + 1)

    def _scaled(self, value: float) -> float:
        return float(np.log10(max(value, self.low, 1e-12))) if self.log else value


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that is not below `rough`."""
    if not rough > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9)))


def spanning(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Lower and upper end of an axis that shows all `values`; from 0 unless logarithmic."""
    if not log:
        high = max([*values, 1e-9]) * 1.04
        step = nice_step(high / 16)
        return 0.0, float(np.ceil(high / step - 1e-9)) * step
    positive = [value for value in values if value > 0] or [1.0]
    return float(min(positive)) * 0.8, float(max(positive)) * 1.25
