"""Truths of a recording, found by time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from fusion.types import Truth

TRUTH_TOLERANCE_NS = 60_000_000
"""How far a truth may be from a sample's time and still be its truth."""


class TruthIndex:
    """Truths of a recording, found by time. Empty when the recording tells none."""

    def __init__(self, truths: Iterable[Truth]) -> None:
        self._truths = sorted(truths, key=lambda truth: truth.time_ns)
        self._times = [truth.time_ns for truth in self._truths]

    def __bool__(self) -> bool:
        return bool(self._truths)

    @property
    def boxed(self) -> bool:
        """Whether it tells where things are in the picture, if there are things: some tell of space alone."""
        things = [thing for truth in self._truths for thing in truth.objects]
        return not things or any(thing.box2d for thing in things)

    def at(self, time_ns: int) -> Truth | None:
        """The truth nearest to `time_ns`, within `TRUTH_TOLERANCE_NS`."""
        index = bisect_left(self._times, time_ns)
        near = self._truths[max(0, index - 1) : index + 1]
        best = min(near, key=lambda truth: abs(truth.time_ns - time_ns), default=None)
        return best if best and abs(best.time_ns - time_ns) <= TRUTH_TOLERANCE_NS else None

    def intent(self, time_ns: int) -> str:
        """What was said in the utterance in effect; empty when nothing was."""
        truth = self.at(time_ns)
        return truth.intent or "" if truth else ""
