"""Where the names of points go, so that they can be read: beside their point, over no other point or name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ADVANCE = 7.8
"""Width of a character, in the units of the drawing; a little more than bold letters need at 12 px."""
LINE = 13.0
FAR = 16.0
"""A name farther than this from its spot has a line to it."""
_SIDES = (1, -1)
_SLIDES = (0.0, 1.0, 0.5, 0.25, 0.75)
"""How much of a name above or below its spot lies left of it."""
_RINGS = (0.0, 18.0, 28.0, 44.0, 62.0, 84.0, 110.0)


@dataclass(frozen=True, slots=True)
class Spot:
    """A point to be named: its middle and radius."""

    x: float
    y: float
    radius: float
    name: str


@dataclass(frozen=True, slots=True)
class Rect:
    """From (`left`, `top`) to (`right`, `bottom`), y down."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rect) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def nearest(self, spot: Spot) -> tuple[float, float]:
        """Its point that is nearest to the middle of a spot."""
        return min(max(spot.x, self.left), self.right), min(max(spot.y, self.top), self.bottom)

    def inside(self, other: Rect) -> bool:
        """Whether all of it lies in `other`."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def place(spots: Sequence[Spot], frame: Rect, lines: Sequence[Rect] = ()) -> list[Rect | None]:
    """A place for the name of each spot, those that come first choosing first; None where there is no good one.

    A name lies over no spot, no other name and none of `lines`. One that stands beside its spot is nearer to it than
    to any other; for one farther away a straight line to its spot meets no other.
    """
    taken = [*(Rect(one.left - 2, one.top - 2, one.right + 2, one.bottom + 2) for one in lines)]
    taken += [Rect(s.x - s.radius, s.y - s.radius, s.x + s.radius, s.y + s.radius) for s in spots]
    found: list[Rect | None] = []
    for spot in spots:
        others = [other for other in spots if other is not spot]
        free = (one for one in _around(spot) if one.inside(frame) and not any(one.overlap(t) > 0 for t in taken))
        chosen = next((one for one in free if _is_of(one, spot, others)), None)
        found.append(chosen)
        if chosen:
            taken.append(chosen)
    return found


def _is_of(one: Rect, spot: Spot, others: Sequence[Spot]) -> bool:
    own = _gap(one, spot)
    if own <= FAR:
        return all(_gap(one, other) > own + 3 for other in others)
    near = one.nearest(spot)
    return not any(_meets((spot.x, spot.y), near, other) for other in others)


def _gap(one: Rect, spot: Spot) -> float:
    return math.dist(one.nearest(spot), (spot.x, spot.y)) - spot.radius


def _meets(start: tuple[float, float], end: tuple[float, float], spot: Spot) -> bool:
    """Whether the straight line from `start` to `end` touches the spot."""
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2 or 1.0
    part = ((spot.x - start[0]) * along[0] + (spot.y - start[1]) * along[1]) / length
    part = min(1.0, max(0.0, part))
    return math.dist((start[0] + part * along[0], start[1] + part * along[1]), (spot.x, spot.y)) <= spot.radius


def _around(spot: Spot) -> list[Rect]:
    """Places for its name, the nearest first: on a level with it, then above and below."""
    wide, found = ADVANCE * len(spot.name), []
    for ring in _RINGS:
        gap = spot.radius + 4 + ring
        for side in _SIDES:
            left = spot.x + gap if side > 0 else spot.x - gap - wide
            found.append(Rect(left, spot.y - LINE / 2, left + wide, spot.y + LINE / 2))
        for side in _SIDES:
            middle = spot.y - side * (gap + LINE / 2)
            lefts = (spot.x - wide * slide for slide in _SLIDES)
            found += [Rect(left, middle - LINE / 2, left + wide, middle + LINE / 2) for left in lefts]
    return found
