"""Whether one run's detections are those of the other run a few samples before or after: pictures with a wrong time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from replay.compare.matching import Match, by_time
from replay.results.records import ItemResult

SAMPLES = 4
"""How far it is looked, in samples."""
_EXACTLY_PX = 0.5
_LEAST, _LEAST_BOXES = 0.8, 8


@dataclass(frozen=True, slots=True)
class Lag:
    """The second run shows what the first had `ms` before: so say `share` of its boxes, `unshifted` say no."""

    ms: float
    share: float
    unshifted: float


def lag(one: Match) -> Lag | None:
    """The shift by some samples that explains the boxes of the second run, None where they are where they were.

    Clocks may be off by anything up to half a sample.
    """
    first, second = by_time(one.before.items), by_time(one.after.items)
    before, after = sorted(first), sorted(second)
    if len(before) <= SAMPLES or len(after) <= SAMPLES:
        return None
    period = median(b - a for a, b in pairwise(before))
    moments = {shift: _shifted(before, after, shift, period) for shift in range(-SAMPLES, SAMPLES + 1)}
    shares = {shift: _share(first, second, found) for shift, found in moments.items()}
    best = max(shares, key=lambda shift: shares[shift])
    if best == 0 or shares[best] < _LEAST or shares[0] > shares[best] / 2:
        return None
    return Lag(median(time - earlier for earlier, time in moments[best]) / 1e6, shares[best], shares[0])


def _shifted(before: list[int], after: list[int], shift: int, period: float) -> list[tuple[int, int]]:
    """Pairs of the nearest moments, the first run's `shift` samples earlier."""
    pairs = []
    for time in after:
        wanted = round(time - shift * period)
        place = bisect_left(before, wanted)
        earlier = min(before[max(0, place - 1) : place + 1], key=lambda known: abs(known - wanted))
        if abs(earlier - wanted) <= period / 2:
            pairs.append((earlier, time))
    return pairs


def _share(
    first: dict[int, list[ItemResult]], second: dict[int, list[ItemResult]], moments: list[tuple[int, int]]
) -> float:
    """Share of the second run's boxes that are a box of the first run's moment; 0 of too few to tell."""
    boxes = [(box, first[earlier]) for earlier, time in moments for box in second[time]]
    if len(boxes) < _LEAST_BOXES:
        return 0.0
    return sum(any(_same(box, other) for other in others) for box, others in boxes) / len(boxes)


def _same(one: ItemResult, other: ItemResult) -> bool:
    a, b = one.box, other.box
    return max(abs(a.x1 - b.x1), abs(a.y1 - b.y1), abs(a.x2 - b.x2), abs(a.y2 - b.y2)) <= _EXACTLY_PX
