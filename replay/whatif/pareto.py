"""Which of several ways to run are worth a look: those that no other beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.types import BoolArray


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better; less is better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def front(points: Sequence[Sequence[float]]) -> BoolArray:
    """Which of `points` (N, objectives) are on the Pareto front: no other dominates them. Equal points all are.

    Less is better in every objective. Raises `ValueError` for one that is not a number.
    """
    if not len(points):
        return np.zeros(0, np.bool_)
    costs = np.asarray(points, np.float64)
    if np.isnan(costs).any():
        raise ValueError("a point that is not a number has no place on a front")
    no_worse = (costs[:, None] <= costs[None]).all(-1)
    better = (costs[:, None] < costs[None]).any(-1)
    beaten: BoolArray = np.logical_or.reduce(no_worse & better)
    return ~beaten
