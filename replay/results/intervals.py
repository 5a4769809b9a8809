"""Shares with 95 % intervals: how far a figure of a run could be luck.

Two ways, and each figure says which. A share of things that do not hang together, a defect each, has Wilson's score
interval (JASA 1927). A share over items, of which several show the same thing, is resampled by what they show (cluster
bootstrap over tracks, over samples where nothing is tracked). Where all of those agree, resampling tells nothing, and
the interval is Wilson's over the things shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.bootstrap import mean_interval
from fusion.types import Float64Array, ItemState
from replay.results.answers import Answerer, answers, clusters, judged, right_slots
from replay.results.records import DefectResult, ItemResult

DRAWS = 1000
_Z = 1.959964
"""Of the normal distribution, 95 % lie within so many deviations."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n`, with its 95 % interval and the way that was found."""

    value: float
    low: float
    high: float
    n: int
    method: str


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `hits` in `n` independent trials. Raises `ValueError` without trials."""
    if n < 1:
        raise ValueError("no trials, no interval")
    share, spread = hits / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * float(np.sqrt(share * (1 - share) / n + spread / (4 * n)))
    low = 0.0 if hits <= 0 else max(0.0, middle - half)
    high = 1.0 if hits >= n else min(1.0, middle + half)
    return low, high


def missed_share(defects: Sequence[DefectResult]) -> Share | None:
    """Share of the defects in clear view that were missed, however that came; None without any."""
    if not defects:
        return None
    missed = sum(defect.fate.missed for defect in defects)
    return Share(missed / len(defects), *wilson(missed, len(defects)), len(defects), "Wilson, a defect a trial")


def accuracy(items: Iterable[ItemResult], by: Answerer, slot: str = "") -> Share | None:
    """Share of judged items that `by` answered right in `slot`, or in every slot; None where it answered none."""
    compared = [item for item in judged(items) if not slot or slot in item.truth_answers]
    if not any(answers(item, by) for item in compared):
        return None
    right = [right_slots(item, by) for item in compared]
    marks = np.asarray([one[slot] if slot else all(one.values()) for one in right], np.float64)
    return clustered(marks, clusters(compared))


def needless(items: Sequence[ItemResult]) -> Share | None:
    """Share of reviews about something with nothing wrong with it or nothing at all, as far as that is known."""
    told = [item for item in items if item.state is ItemState.REVIEWED and item.truth_answers]
    if not told:
        return None
    return clustered(np.asarray([not _about_a_defect(item) for item in told], np.float64), clusters(told))


def _about_a_defect(item: ItemResult) -> bool:
    """Whether the truth of a task without conditions is a thing, else a thing whose condition needs something done."""
    truth = item.truth_answers
    if "action" in truth or "defect" in truth:
        return truth.get("action", "none") != "none" or truth.get("defect") == "real"
    return item.truth is not None


def clustered(marks: Float64Array, groups: NDArray[np.int64]) -> Share:
    """The mean of `marks` (N,), 0 or 1 each, with an interval over `groups` (N,)."""
    found = mean_interval(marks, groups, draws=DRAWS)
    if found.low < found.high:
        return Share(found.value, found.low, found.high, len(marks), "bootstrap over things shown")
    shown = len(np.unique(groups))
    return Share(found.value, *wilson(found.value * shown, shown), len(marks), "Wilson, a thing shown a trial")
