"""A token bucket of bytes, on the stream's own time so that replay decides as the device did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.codec import FULL, RATES, Rate

FIRST_GUESS_BYTES = 4096.0
LEARNING = 0.1
SHARES = {"full": 1.0, "lean": 0.65, "coarse": 0.47, "least": 0.4}
"""What the evidence of each rate weighs beside that of the finest, until it is measured (docs/results.md)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one item may send: at which rate, and how many bytes were taken for it before it was encoded."""

    rate: Rate
    reserved: float = 0.0


UNLIMITED = Grant(FULL)


@dataclass(slots=True)
class ByteBudget:
    """`rate` bytes a second, at most `burst` saved up; a rate of 0 is no limit.

    The fuller the bucket, the finer the evidence: the finest rate of `rates` while at least half of the burst is there,
    and each coarser one for an equal part of the lower half; an item is refused only when not even the coarsest fits.
    What an item will weigh is known only after it is encoded, so admission goes by a running mean for each rate and
    `charge` settles the difference. A rate that was never sent is expected to weigh its usual share of those that were.
    """

    rate: float
    burst: int
    rates: Sequence[Rate] = RATES
    level: float = field(init=False)
    expected: dict[str, float] = field(init=False)
    measured: set[str] = field(default_factory=set)
    _time_ns: int | None = None

    def __post_init__(self) -> None:
        self.level = float(self.burst)
        self.expected = _shared("full", FIRST_GUESS_BYTES)

    def refill(self, time_ns: int) -> None:
        """Let time pass up to `time_ns`; a step back refills nothing."""
        if self._time_ns is not None and time_ns > self._time_ns:
            self.level = min(float(self.burst), self.level + self.rate * (time_ns - self._time_ns) / 1e9)
        self._time_ns = time_ns

    def admit(self) -> Grant | None:
        """What one more item may send, whose expected weight is taken; None when it does not fit."""
        if self.rate == 0:
            return Grant(self.rates[0])
        for rate in self.rates[self._coarseness() :]:
            needed = self.expected[rate.name]
            if self.level >= min(needed, self.burst):
                self.level -= needed
                return Grant(rate, needed)
        return None

    def charge(self, grant: Grant, actual: int) -> None:
        """Settle an admitted item that weighed `actual` bytes."""
        if self.rate:
            self.level += grant.reserved - actual
        name = grant.rate.name
        mean = self.expected[name] + LEARNING * (actual - self.expected[name])
        self.measured.add(name)
        known = {other: weight for other, weight in self.expected.items() if other in self.measured}
        self.expected = _shared(name, mean) | known | {name: mean}

    def release(self, grant: Grant) -> None:
        """Give back what was taken for an item that could not be encoded."""
        self.level = min(float(self.burst), self.level + grant.reserved)

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "level": self.level,
            "expected": dict(self.expected),
            "measured": sorted(self.measured),
            "time_ns": self._time_ns,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`; a smaller burst set since then holds at once.

        One of a device that knew no rates has one mean, that of the finest.
        """
        self.level, self._time_ns = min(float(self.burst), state["level"]), state["time_ns"]
        expected = state["expected"]
        self.expected = self.expected | expected if isinstance(expected, dict) else _shared("full", expected)
        self.measured = set(state.get("measured", ()))

    def _coarseness(self) -> int:
        """How many rates are passed over at this level."""
        missing = 1 - max(0.0, self.level) / self.burst
        coarser = len(self.rates) - 1
        return min(coarser, max(0, int((2 * missing - 1) * coarser) + 1)) if missing > 1 / 2 else 0


def _shared(name: str, weight: float) -> dict[str, float]:
    """What every rate weighs when that of `name` weighs `weight`, by their usual shares."""
    return {other: weight * share / SHARES[name] for other, share in SHARES.items()}
