"""The metrics that two runs are compared by: each a number that follows from sums over items or defects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion.task import Task
from fusion.types import Float64Array, ItemState
from replay.results.answers import Answerer, answers, right_slots
from replay.results.records import DefectResult, ItemResult

_BINS = 10
_SLOT = "slot_accuracy."
MISSED = "defects_missed_share"
NAMES = (
    "verdict_accuracy", "device_accuracy", "detector_accuracy", "reviewed_share", "uncertain_share", "evidence_bytes",
    "load_bytes", "calibration_error", MISSED,
)  # fmt: skip
"""All metrics but those of a task's slots, `slot_accuracy.SLOT`."""


def is_metric(name: str) -> bool:
    """Whether there is such a metric, for some task."""
    return name in NAMES or name.startswith(_SLOT)


@dataclass(frozen=True, slots=True)
class Metric:
    """`sums` is what one item adds, None where it has no say; `value` makes sums (..., width) the metric (...).

    `better` is 1 where more is better, -1 where less is. `unit` is `share`, `bytes` or nothing.
    """

    name: str
    title: str
    better: int
    unit: str
    width: int
    sums: Callable[[ItemResult], tuple[float, ...] | None]
    value: Callable[[Float64Array], Float64Array]


def mean(sums: Float64Array) -> Float64Array:
    """Sum over count, (..., 2); NaN of none."""
    counts = sums[..., 1]
    return _ratio(sums[..., 0], counts)


def calibration_error(sums: Float64Array) -> Float64Array:
    """Expected calibration error from each bin's count, confidence and right answers, (..., 3 bins); NaN of none."""
    bins = sums.reshape(*sums.shape[:-1], _BINS, 3)
    total = bins[..., 0].sum(-1)
    gaps = np.abs(bins[..., 1] - bins[..., 2]).sum(-1)
    return _ratio(gaps, total)


def _ratio(part: Float64Array, whole: Float64Array) -> Float64Array:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0), np.float64)


def item_metrics(task: Task) -> list[Metric]:
    """Everything that is counted over items."""
    shares = [
        Metric("verdict_accuracy", "reviewer: whole verdict right", 1, "share", 2, _verdict_right, mean),
        *(
            Metric(
                f"{_SLOT}{slot.name}",
                f"reviewer: {slot.name} right",
                1,
                "share",
                2,
                _slot_right(slot.name),
                mean,
            )
            for slot in task.slots
        ),
        Metric("device_accuracy", "device: all answers right", 1, "share", 2, _right(Answerer.DEVICE), mean),
        Metric("detector_accuracy", "detector: all answers right", 1, "share", 2, _right(Answerer.DETECTOR), mean),
        Metric("reviewed_share", "items reviewed", -1, "share", 2, _reviewed, mean),
        Metric("uncertain_share", "reviews that stayed unsure", -1, "share", 2, _uncertain, mean),
    ]
    return [
        *shares,
        Metric("evidence_bytes", "evidence of an item that was sent", -1, "bytes", 2, _evidence, mean),
        Metric("load_bytes", "evidence, over all items seen", -1, "bytes", 2, _load, mean),
        Metric(
            "calibration_error",
            "reviewer: expected calibration error",
            -1,
            "",
            3 * _BINS,
            _confidence,
            calibration_error,
        ),
    ]


def missed(defect: DefectResult) -> tuple[float, float]:
    """What a defect adds to the share of defects missed."""
    return float(defect.fate.missed), 1.0


def _judged(item: ItemResult) -> bool:
    return item.state is ItemState.REVIEWED and bool(item.verdict) and bool(item.truth_answers)


def _verdict_right(item: ItemResult) -> tuple[float, ...] | None:
    return (float(all(right_slots(item, Answerer.REVIEWER).values())), 1.0) if _judged(item) else None


def _slot_right(name: str) -> Callable[[ItemResult], tuple[float, ...] | None]:
    def sums(item: ItemResult) -> tuple[float, ...] | None:
        if not _judged(item) or name not in item.truth_answers:
            return None
        return float(right_slots(item, Answerer.REVIEWER)[name]), 1.0

    return sums


def _right(by: Answerer) -> Callable[[ItemResult], tuple[float, ...] | None]:
    """Over all items with a known truth, sent or not."""

    def sums(item: ItemResult) -> tuple[float, ...] | None:
        if not item.truth_answers or not answers(item, by):
            return None
        return float(all(right_slots(item, by).values())), 1.0

    return sums


def _reviewed(item: ItemResult) -> tuple[float, ...]:
    return float(item.state is ItemState.REVIEWED), 1.0


def _uncertain(item: ItemResult) -> tuple[float, ...] | None:
    return (float(item.uncertain), 1.0) if item.state is ItemState.REVIEWED and item.verdict else None


def _evidence(item: ItemResult) -> tuple[float, ...] | None:
    return (float(item.evidence_bytes), 1.0) if item.evidence_bytes else None


def _load(item: ItemResult) -> tuple[float, ...]:
    return float(item.evidence_bytes), 1.0


def _confidence(item: ItemResult) -> tuple[float, ...] | None:
    if not _judged(item):
        return None
    bins = np.zeros((_BINS, 3))
    for name, answer in item.verdict.items():
        if name in item.truth_answers:
            place = min(_BINS - 1, int(answer.confidence * _BINS))
            bins[place] += (1.0, answer.confidence, float(answer.option == item.truth_answers[name]))
    return tuple(bins.ravel().tolist())
