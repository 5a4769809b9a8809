"""Reads less of an item before it refuses one: what a service under load leaves out. A pure decision object.

The order is by what is saved for what is lost (docs/evidence.md, "Under load"): a picture that is asked for costs more
than two reviews and told least; then go the scene's tokens, then the maps of items whose fused tokens are read.
A coarser rate's missing map layers are no level here: a reviewer's tokens are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum

from fusion.errors import EvidenceError
from fusion.types import Evidence

_RISES = (0.5, 0.65, 0.8)
_FALLS = (0.25, 0.4, 0.55)
"""From which load on a level is taken, and below which it is left again."""


class Level(IntEnum):
    """What is left out, each with what comes before it."""

    ALL = 0
    """Nothing."""

    NO_PICTURES = 1
    """Uncertain items are not asked for pixels."""

    NO_SCENE = 2
    """The fused tokens of the scene; the item's own stays."""

    NO_MAPS = 3
    """The maps, where a fused token is left to read."""


class Thinning:
    """A level from the queue's load, with hysteresis, so that a load on the edge does not make it flicker."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.level = Level.ALL
        self._enabled = enabled

    def decide(self, fill: float, drain_ns: int = 0, slack_ns: int | None = None, *, overloaded: bool = False) -> Level:
        """The level for an item that would wait now.

        `fill` is the share of the queue that is taken, 0..1, and moves `level`. An item whose `slack_ns` to its
        deadline is short against the `drain_ns` that what waits will take gets a higher one for itself; so does every
        item with a deadline while the reviewer is `overloaded`, whose queue is then kept short.
        """
        if not self._enabled:
            return Level.ALL
        while self.level < Level.NO_MAPS and fill >= _RISES[self.level]:
            self.level = Level(self.level + 1)
        while self.level > Level.ALL and fill < _FALLS[self.level - 1]:
            self.level = Level(self.level - 1)
        if slack_ns is None:
            return self.level
        if overloaded:
            return Level.NO_MAPS
        pressed = drain_ns / max(1, slack_ns)
        return max(self.level, Level(sum(pressed >= rise for rise in _RISES)))


def thinner(evidence: Evidence, level: Level) -> Evidence:
    """`evidence` without what `level` leaves out; with nothing to leave out, the very same."""
    tokens = evidence.tokens
    if tokens is None or not len(tokens.values):
        return evidence
    if level >= Level.NO_SCENE and len(tokens.values) > 1:
        evidence = replace(evidence, tokens=replace(tokens, values=tokens.values[:1]))
    if level >= Level.NO_MAPS and evidence.maps is not None:
        evidence = replace(evidence, maps=None)
    return evidence


def thin(evidence: Evidence, level: Level, price: Callable[[Evidence], int]) -> tuple[Evidence, int, Level]:
    """What is read of `evidence`, its price in tokens, and the level of what was really left out.

    Nothing is left out that does not make a review cheaper. Raises `EvidenceError` where `price` does on the whole.
    """
    read, tokens, taken = evidence, price(evidence), Level.ALL
    for step in (Level.NO_SCENE, Level.NO_MAPS):
        less = thinner(evidence, step) if step <= level else read
        if less is read:
            continue
        try:
            cheaper = price(less)
        except EvidenceError:  # a reviewer that needs what would be left out
            return read, tokens, taken
        if cheaper < tokens:
            read, tokens, taken = less, cheaper, step
    return read, tokens, taken
