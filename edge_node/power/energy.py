"""Joules from readings: the book of what was drawn, over how long, and for how much work."""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.power.meter import Measure

GAP_NS = 5_000_000_000
"""Readings further apart than this say nothing about the time between them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What was done up to a moment: samples decided on, reviews answered."""

    samples: int = 0
    reviews: int = 0


@dataclass(slots=True)
class EnergyBook:
    """Add each reading, also the failed ones. Durations are nanoseconds of the monotonic clock, since `began_ns`.

    Power is integrated by the trapezoid rule, counters by their differences. Work counts only where the time it was
    done in was measured, so joules and work always belong to the same time.
    """

    began_ns: int
    joules: float = 0.0
    measured_ns: int = 0
    samples: int = 0
    reviews: int = 0
    _at_ns: int | None = None
    _before: Measure | None = None
    _done: Work = Work()

    def add(self, now_ns: int, measure: Measure | None, done: Work) -> None:
        """Enter a reading, None for one that failed, and the work `done` until then."""
        past_ns = now_ns - self._at_ns if self._at_ns is not None else 0
        joules = _joules(self._before, measure, past_ns) if past_ns <= GAP_NS else None
        if joules is not None:
            self.joules += joules
            self.measured_ns += past_ns
            self.samples += done.samples - self._done.samples
            self.reviews += done.reviews - self._done.reviews
        self._at_ns, self._before, self._done = now_ns, measure, done

    @property
    def watts_mean(self) -> float | None:
        """Mean over the measured time; None where nothing was measured."""
        return self.joules / (self.measured_ns / 1e9) if self.measured_ns else None

    @property
    def joules_per_sample(self) -> float | None:
        """None without a sample in the measured time."""
        return self.joules / self.samples if self.samples else None

    @property
    def joules_per_review(self) -> float | None:
        """None without a review in the measured time."""
        return self.joules / self.reviews if self.reviews else None

    def unmeasured_s(self, now_ns: int) -> float:
        """Seconds since the start over which nothing was measured."""
        return (now_ns - self.began_ns - self.measured_ns) / 1e9


def _joules(before: Measure | None, now: Measure | None, past_ns: int) -> float | None:
    """What was drawn between two readings; None where they do not tell."""
    if before is None or now is None or past_ns <= 0:
        return None
    if now.joules is not None:
        return now.joules
    if before.watts is None or now.watts is None:
        return None
    return (before.watts + now.watts) / 2 * past_ns / 1e9
