"""Which channels of which levels a layer of evidence holds, coarse to fine.

The coarser levels tell most in the fewest bytes, since a cell of theirs covers four of the next finer one; then come
the finest level's channels, which a trunk sorts by importance, in two halves. What a layer holds follows from the
profile alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.codec.profile import Profile
from fusion.types import BoolArray

LAYERS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Channels `start` to `stop` (excluded) of a level."""

    level: int
    start: int
    stop: int


def layer_parts(profile: Profile) -> tuple[tuple[Part, ...], ...]:
    """What each of the `LAYERS` layers holds, in the order in which it is coded."""
    return _parts([level.channels for level in profile.levels])


def whole_part(profile: Profile) -> tuple[Part, ...]:
    """Everything, as devices sent it before there were layers."""
    return tuple(Part(index, 0, level.channels) for index, level in enumerate(profile.levels))


def sent_channels(counts: Sequence[int], layers: int) -> tuple[BoolArray, ...]:
    """Which of a level's channels, `counts` of them, the first `layers` layers hold: one (K,) mask a level."""
    sent = tuple(np.zeros(count, np.bool_) for count in counts)
    for parts in _parts(counts)[:layers]:
        for part in parts:
            sent[part.level][part.start : part.stop] = True
    return sent


def _parts(counts: Sequence[int]) -> tuple[tuple[Part, ...], ...]:
    finest, half = counts[0], -(-counts[0] // 2)
    if len(counts) > 1:
        base, start = tuple(Part(index, 0, count) for index, count in enumerate(counts[1:], 1)), 0
    else:
        start = -(-finest // 4)
        base = (Part(0, 0, start),)
    return base, (Part(0, start, half),), (Part(0, half, finest),)
