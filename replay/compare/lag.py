"""Whether one run's detections are those of the other run a few samples before or after: pictures with a wrong time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from replay.compare.matching import Match, by_time
from replay.results.records import ItemResult

SAMPLES = 4
"""How far it is looked, in samples."""
_EXACTLY_PX = 0.5
_LEAST = 0.8


@dataclass(frozen=True, slots=True)
class Lag:
    """The second run shows what the first had `ms` before: so say `share` of its boxes, `unshifted` say no."""

    ms: float
    share: float
    unshifted: float


def lag(one: Match) -> Lag | None:
    """The shift by whole samples that explains the boxes of the second run, None where they are where they were."""
    first, second = by_time(one.before.items), by_time(one.after.items)
    before, after = sorted(first), sorted(second)
    if len(before) <= SAMPLES or len(after) <= SAMPLES:
        return None
    shares = {}
    for shift in range(-SAMPLES, SAMPLES + 1):
        shares[shift] = _share(first, second, _shifted(before, after, shift))
    best = max(shares, key=lambda shift: shares[shift])
    if best == 0 or shares[best] < _LEAST or shares[0] > shares[best] / 2:
        return None
    return Lag(best * median(b - a for a, b in pairwise(before)) / 1e6, shares[best], shares[0])


def _shifted(before: list[int], after: list[int], shift: int) -> list[tuple[int, int]]:
    """Pairs of the nearest moments, the first run's `shift` samples earlier."""
    period = median(b - a for a, b in pairwise(before))
    known = set(before)
    pairs = [(round(time - shift * period), time) for time in after]
    return [(earlier, time) for earlier, time in pairs if earlier in known]


def _share(
    first: dict[int, list[ItemResult]], second: dict[int, list[ItemResult]], moments: list[tuple[int, int]]
) -> float:
    """Share of the second run's boxes that are a box of the first run's moment."""
    boxes = [(box, first[earlier]) for earlier, time in moments for box in second[time]]
    return sum(any(_same(box, other) for other in others) for box, others in boxes) / len(boxes) if boxes else 0.0


def _same(one: ItemResult, other: ItemResult) -> bool:
    a, b = one.box, other.box
    return max(abs(a.x1 - b.x1), abs(a.y1 - b.y1), abs(a.x2 - b.x2), abs(a.y2 - b.y2)) <= _EXACTLY_PX
