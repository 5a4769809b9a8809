"""Answers against truth: what reviewer, fused heads and bare detector got right, on the same items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.bootstrap import Interval, mean_interval
from fusion.task import Slot, Task
from fusion.types import Float64Array, ItemState
from replay.results.records import ItemResult


class Answerer(StrEnum):
    """Who answered."""

    REVIEWER = "reviewer"
    DEVICE = "device"
    DETECTOR = "detector"


class Outcome(StrEnum):
    """Whether the answer that stands for an item agrees with the truth in every slot."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of right answers of the three, on the same `n` answers; None where one never answered any of them."""

    name: str
    n: int
    reviewer: float | None
    device: float | None
    detector: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """One slot's verdicts against the truth: `counts[t][v]` items of truth `truths[t]` were answered `verdicts[v]`."""

    slot: str
    truths: tuple[str, ...]
    verdicts: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def n(self) -> int:
        """How many answers were compared."""
        return sum(map(sum, self.counts))


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Answers whose confidence lies in [`low`, `high`), the last bin's upper end included."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against correctness. `ece` is the expected calibration error (Naeini et al., AAAI 2015)."""

    bins: tuple[CalibrationBin, ...]
    ece: float
    n: int


def answers(item: ItemResult, by: Answerer) -> Mapping[str, str]:
    """The chosen option of each slot."""
    if by is Answerer.DEVICE:
        return item.device_answers
    if by is Answerer.DETECTOR:
        return item.detector_answers
    return {name: answer.option for name, answer in item.verdict.items()}


def standing(item: ItemResult) -> Answerer:
    """Whose answer stands: the reviewer's where there is one, else the device's, else the detector's."""
    return next((by for by in Answerer if answers(item, by)), Answerer.DETECTOR)


def right_slots(item: ItemResult, by: Answerer) -> dict[str, bool]:
    """For each slot with a known truth, whether the answer is right; a missing answer is wrong."""
    given = answers(item, by)
    return {name: given.get(name) == truth for name, truth in item.truth_answers.items()}


def outcome(item: ItemResult) -> Outcome:
    """Whether the standing answer is right in every slot; unknown without truth, or where nobody answers."""
    by = standing(item)
    if not item.truth_answers or not answers(item, by):
        return Outcome.UNKNOWN
    return Outcome.RIGHT if all(right_slots(item, by).values()) else Outcome.WRONG


def judged(items: Iterable[ItemResult]) -> list[ItemResult]:
    """The items the three are compared on: reviewed, with truth."""
    return [item for item in items if item.state is ItemState.REVIEWED and item.verdict and item.truth_answers]


def slot_accuracies(task: Task, items: Iterable[ItemResult]) -> list[Accuracy]:
    """One row a slot of the task that has any truth."""
    compared = judged(items)
    rows = []
    for slot in task.slots:
        told = [item for item in compared if slot.name in item.truth_answers]
        if told:
            shares = [_share(told, by, partial(_of_slot, slot.name)) for by in Answerer]
            rows.append(Accuracy(slot.name, len(told), *shares))
    return rows


def answer_accuracy(items: Iterable[ItemResult]) -> Accuracy:
    """The share of right answers over all slots of all judged items; `n` counts answers."""
    compared = judged(items)
    shares = [_share(compared, by, lambda right: list(right.values())) for by in Answerer]
    return Accuracy("all answers", sum(len(item.truth_answers) for item in compared), *shares)


def verdict_accuracy(items: Iterable[ItemResult]) -> Accuracy:
    """The share of judged items with every slot right, as `fusion evaluate reviewer` counts; `n` counts items."""
    compared = judged(items)
    shares = [_share(compared, by, lambda right: [all(right.values())]) for by in Answerer]
    return Accuracy("whole verdict", len(compared), *shares)


def lead(items: Iterable[ItemResult], over: Answerer) -> Interval | None:
    """How much more often the reviewer's whole verdict is right than `over`'s, with its 95 % interval.

    A paired bootstrap over tracks (over samples where nothing is tracked). None when there is nothing to compare.
    """
    compared = judged(items)
    if not any(answers(item, over) for item in compared):
        return None
    marks = [[all(right_slots(item, by).values()) for item in compared] for by in (Answerer.REVIEWER, over)]
    return mean_interval(np.subtract(*np.asarray(marks, np.float64)), clusters(compared))


def clusters(items: Sequence[ItemResult]) -> NDArray[np.int64]:
    """Which items show the same thing: a number (N,) for each track, for each sample where nothing is tracked."""
    numbers: dict[tuple[str, int], int] = {}
    keys = ((item.recording, item.track if item.track > 0 else -item.sequence) for item in items)
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _of_slot(name: str, right: Mapping[str, bool]) -> list[bool]:
    return [right[name]]


def _share(
    items: Sequence[ItemResult], by: Answerer, marks: Callable[[Mapping[str, bool]], list[bool]]
) -> float | None:
    if not any(answers(item, by) for item in items):
        return None
    return float(np.mean([mark for item in items for mark in marks(right_slots(item, by))]))


def confusion(slot: Slot, items: Iterable[ItemResult]) -> Confusion:
    """The reviewer's answers of one slot against the truth; rows and columns that never occur are left out."""
    pairs = [
        (item.truth_answers[slot.name], item.verdict[slot.name].option)
        for item in judged(items)
        if slot.name in item.truth_answers and slot.name in item.verdict
    ]
    truths = _in_order(slot.options, {truth for truth, _ in pairs})
    verdicts = _in_order(slot.options, {verdict for _, verdict in pairs} | set(truths))
    counts = tuple(tuple(pairs.count((truth, verdict)) for verdict in verdicts) for truth in truths)
    return Confusion(slot.name, truths, verdicts, counts)


def _in_order(options: Sequence[str], used: set[str]) -> tuple[str, ...]:
    return (*(option for option in options if option in used), *sorted(used - set(options)))


def calibration(items: Iterable[ItemResult], slot: str = "", bins: int = 10) -> Calibration:
    """How often answers given with a confidence were right; of one slot, or of all together."""
    pairs = [
        (answer.confidence, answer.option == item.truth_answers[name])
        for item in judged(items)
        for name, answer in item.verdict.items()
        if name in item.truth_answers and slot in ("", name)
    ]
    if not pairs:
        return Calibration((), 0.0, 0)
    confidence = np.array([c for c, _ in pairs], np.float64)
    right = np.array([r for _, r in pairs], np.float64)
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    filled = [_bin(b, bins, confidence[index == b], right[index == b]) for b in range(bins) if (index == b).any()]
    ece = sum(b.n * abs(b.confidence - b.accuracy) for b in filled) / len(pairs)
    return Calibration(tuple(filled), float(ece), len(pairs))


def _bin(index: int, bins: int, confidence: Float64Array, right: Float64Array) -> CalibrationBin:
    means = float(confidence.mean()), float(right.mean())
    return CalibrationBin(index / bins, (index + 1) / bins, len(confidence), *means)
