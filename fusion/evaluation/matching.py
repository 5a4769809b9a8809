"""Greedy one-to-one matching, as detection benchmarks define it, for all frames and thresholds at once.

The official evaluators walk through frames, objects and candidates in loops. All they decide is: of a list of possible
pairs, in a fixed order, take each pair whose two members are still free. Pairs that share no member cannot disturb each
other, so the list is worked off in waves of such pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.types import BoolArray

IndexArray = NDArray[np.int64]


def pairs_within_groups(left: NDArray[np.integer], right: NDArray[np.integer]) -> tuple[IndexArray, IndexArray]:
    """Indices (P,) and (P,) of all pairs of members of the same group, ordered by left index, then right.

    `left` (N,) and `right` (M,) are group numbers (a frame, say), `right` ascending.
    """
    first = np.searchsorted(right, left, "left")
    count = np.searchsorted(right, left, "right") - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(left)), count), np.repeat(first, count) + within


def match_in_order(left: IndexArray, right: IndexArray, allowed: BoolArray) -> BoolArray:
    """Which pairs a greedy matcher takes, (P, T), when it tries them in the order given.

    Pair p joins `left[p]` and `right[p]`; `allowed` (P, T) says in which of T independent runs it may be taken at all.
    A run takes an allowed pair if no earlier taken pair has the same left or the same right member.
    """
    taken = np.zeros_like(allowed)
    if not len(left):
        return taken
    left_free = np.ones((left.max() + 1, allowed.shape[1]), np.bool_)
    right_free = np.ones((right.max() + 1, allowed.shape[1]), np.bool_)
    after_left, after_right = _following(left), _following(right)
    waits = np.zeros(len(left) + 1, np.int64)  # for so many pairs before it; the last entry is nobody
    waits[after_left] += 1
    waits[after_right] += 1
    waits[-1] = len(left) * 4
    wave = np.flatnonzero(waits == 0)
    while wave.size:
        ours, theirs = left[wave], right[wave]
        hit = allowed[wave] & left_free[ours] & right_free[theirs]
        taken[wave] = hit
        left_free[ours] &= ~hit
        right_free[theirs] &= ~hit
        wave = _released(waits, after_left[wave], after_right[wave])
    return taken


def _following(members: IndexArray) -> IndexArray:
    """For each pair (P,) the next one with the same member, or P where there is none."""
    following = np.full(len(members), len(members))
    order = np.argsort(members, kind="stable")
    same = members[order[1:]] == members[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    return following


def _released(waits: IndexArray, after_left: IndexArray, after_right: IndexArray) -> IndexArray:
    """Pairs that wait for nobody any more, now that those before them are decided; `waits` is brought up to date."""
    waits[after_left] -= 1
    waits[after_right] -= 1
    left = after_left[waits[after_left] == 0]
    waits[left] = -1
    right = after_right[waits[after_right] == 0]
    return np.concatenate([left, right])
