"""nuScenes detection: mAP, NDS and the true-positive errors, as nuscenes-devkit computes them (`detection_cvpr_2019`).

Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020; docs/metrics.md lists the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.errors import InputError
from fusion.evaluation.matching import IndexArray, match_in_order, pairs_within_groups
from fusion.evaluation.nuscenes_boxes import CLASSES, BikeRacks, NuScenesBoxes
from fusion.evaluation.nuscenes_filter import within_reach
from fusion.evaluation.nuscenes_report import ClassMetrics, NuScenesMetrics
from fusion.types import BoolArray, Float64Array

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
"""Largest distance of the centres, seen from above, at which a prediction is a hit (it must be less)."""
ERROR_DISTANCE_M = 2.0
"""The distance whose hits the true-positive errors are taken from."""
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
NOT_MEASURED = {"traffic_cone": {"orient_err", "vel_err", "attr_err"}, "barrier": {"vel_err", "attr_err"}}
"""Errors that have no meaning for a class."""
MIN_RECALL, MIN_PRECISION = 0.1, 0.1
MAX_BOXES_PER_SAMPLE = 500
_RECALL = np.linspace(0, 1, 101)
_FIRST = round(100 * MIN_RECALL) + 1
_CHUNK = 16384
"""Predictions compared with the truth at a time, which bounds the memory."""


def evaluate_nuscenes(
    truth: NuScenesBoxes,
    predictions: NuScenesBoxes,
    *,
    filtered: bool = True,
    ego_positions: Mapping[str, Float64Array] | None = None,
    bike_racks: BikeRacks | None = None,
) -> NuScenesMetrics:
    """The metrics of `predictions` against `truth`, over the same samples.

    `filtered` leaves out, as the benchmark does, what lies beyond its class's range, truth without points, and
    two-wheelers inside `bike_racks`; `ego_positions` (token to (3,) metres, global) serve predictions and truth
    without `ego_translation`. Raises `InputError` when samples differ, a prediction has no score, or a sample has too
    many.
    """
    _check(truth, predictions)
    total = {"gt_total": len(truth), "pred_total": len(predictions)}
    if filtered:
        truth, predictions = within_reach(truth, predictions, ego_positions or {}, bike_racks)
    place = {token: index for index, token in enumerate(truth.samples)}
    to_truth = np.array([place[token] for token in predictions.samples], np.int64)
    classes = []
    for index, name in enumerate(CLASSES):
        mine = np.flatnonzero(predictions.label == index)
        # by falling score; of equal ones the later comes first, as the devkit's reversed sort has it
        found = predictions.where(mine[np.lexsort((mine, predictions.score[mine]))[::-1]])
        classes.append(_class_metrics(name, truth.where(truth.label == index), found, to_truth[found.sample]))
    return NuScenesMetrics(len(truth.samples), filtered, total, DISTANCES_M, tuple(classes))


def _check(truth: NuScenesBoxes, predictions: NuScenesBoxes) -> None:
    for there, other, whose in ((truth, predictions, "predictions"), (predictions, truth, "truth")):
        missing = sorted(set(there.samples) - set(other.samples))
        if missing:
            raise InputError(
                f"{len(missing)} of {len(there.samples)} samples, {missing[0]} among them, are not in the {whose}; a "
                "sample without boxes is an empty list"
            )
    unscored = np.flatnonzero(np.isnan(predictions.score))
    if unscored.size:
        token = predictions.samples[predictions.sample[unscored[0]]]
        raise InputError(f"{unscored.size} predictions have no 'detection_score', the first in sample {token}")
    boxes = np.bincount(predictions.sample, minlength=1)
    if boxes.max() > MAX_BOXES_PER_SAMPLE:
        token = predictions.samples[int(boxes.argmax())]
        raise InputError(f"sample {token} has {boxes.max()} predictions; the benchmark takes {MAX_BOXES_PER_SAMPLE}")


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Predictions and truths of one class that are near each other, and who found whom."""

    prediction: IndexArray  # (P,), ascending, so by falling score
    truth: IndexArray  # (P,)
    taken: BoolArray  # (P, distances)


def _class_metrics(name: str, truth: NuScenesBoxes, found: NuScenesBoxes, sample: IndexArray) -> ClassMetrics:
    """Metrics of one class; `found` by falling score, `sample` (N,) its samples as `truth` counts them."""
    hits = _match(truth, found, sample)
    precision, recall = {}, {}
    errors = dict.fromkeys(ERRORS, 1.0)
    for column, distance in enumerate(DISTANCES_M):
        taken = hits.taken[:, column]
        is_hit = np.zeros(len(found), np.bool_)
        is_hit[hits.prediction[taken]] = True
        curve, confidence = _curves(is_hit, found.score, len(truth))
        reached = np.flatnonzero(confidence)
        last = int(reached[-1]) if reached.size else 0
        precision[distance] = float(np.maximum(curve[_FIRST:] - MIN_PRECISION, 0).mean() / (1 - MIN_PRECISION))
        recall[distance] = float(_RECALL[last])
        if distance == ERROR_DISTANCE_M and last >= _FIRST:
            pairs = truth.where(hits.truth[taken]), found.where(hits.prediction[taken])
            errors = {e: _mean_error(v, pairs[1].score, confidence, last) for e, v in _errors(name, *pairs).items()}
    errors.update(dict.fromkeys(NOT_MEASURED.get(name, ()), np.nan))
    return ClassMetrics(name, len(truth), len(found), precision, recall, errors)


def _mean_error(error: Float64Array, score: Float64Array, confidence: Float64Array, last: int) -> float:
    """Running mean of the hits' `error` (M,), carried over by `score` to the recall positions 0.11 to the `last`."""
    along = np.interp(confidence[::-1], score[::-1], _running_mean(error)[::-1])[::-1]
    return float(along[_FIRST : last + 1].mean())


def _match(truth: NuScenesBoxes, found: NuScenesBoxes, sample: IndexArray) -> _Hits:
    """Each prediction, by falling score, takes the nearest truth of its sample that is free and near enough."""
    parts = [_near_pairs(truth, found, sample, start, start + _CHUNK) for start in range(0, max(len(found), 1), _CHUNK)]
    prediction, thing, apart = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((apart, prediction))
    prediction, thing = prediction[order], thing[order]
    return _Hits(prediction, thing, match_in_order(prediction, thing, apart[order, None] < np.array(DISTANCES_M)))


def _near_pairs(
    truth: NuScenesBoxes, found: NuScenesBoxes, sample: IndexArray, start: int, stop: int
) -> tuple[IndexArray, IndexArray, Float64Array]:
    """Pairs of the predictions from `start` to `stop` with truths in reach: indices (P,), (P,) and distances (P,)."""
    prediction, thing = pairs_within_groups(sample[start:stop], truth.sample)
    prediction = prediction + start
    apart = np.linalg.norm(found.translation[prediction, :2] - truth.translation[thing, :2], axis=1)
    near = apart < max(DISTANCES_M)
    return prediction[near], thing[near], apart[near]


def _curves(is_hit: BoolArray, score: Float64Array, truths: int) -> tuple[Float64Array, Float64Array]:
    """Precision and score at the 101 recall positions, 0 beyond the recall that is reached."""
    if not is_hit.any():
        return np.zeros(len(_RECALL)), np.zeros(len(_RECALL))
    hits = np.cumsum(is_hit)
    recall, precision = hits / truths, hits / np.arange(1, len(hits) + 1)
    return np.interp(_RECALL, recall, precision, right=0), np.interp(_RECALL, recall, score, right=0)


def _errors(name: str, truth: NuScenesBoxes, found: NuScenesBoxes) -> dict[str, Float64Array]:
    """The five errors of hits, (M,) each, `truth` and `found` pairwise; NaN where the truth does not tell."""
    shared = np.minimum(truth.size, found.size).prod(1)
    union = truth.size.prod(1) + found.size.prod(1) - shared
    period = np.pi if name == "barrier" else 2 * np.pi
    turn = (_yaw(truth.rotation) - _yaw(found.rotation) + period / 2) % period - period / 2
    wrong = (truth.attribute != found.attribute).astype(np.float64)
    return {
        "trans_err": np.linalg.norm(truth.translation[:, :2] - found.translation[:, :2], axis=1),
        "scale_err": 1 - shared / union,
        "orient_err": np.abs(turn),
        "vel_err": np.linalg.norm(truth.velocity - found.velocity, axis=1),
        "attr_err": np.where(truth.attribute == 0, np.nan, wrong),
    }


def _yaw(rotation: Float64Array) -> Float64Array:
    """Heading (N,) in radians of the x axis turned by quaternions w, x, y, z (N, 4)."""
    w, x, y, z = rotation.T
    return np.asarray(np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z))


def _running_mean(values: Float64Array) -> Float64Array:
    """Mean of the first 1, 2, ... `values` that are told (not NaN), (N,); ones where none is told at all."""
    told = ~np.isnan(values)
    if not told.any():
        return np.ones(len(values))
    count = np.cumsum(told)
    return np.asarray(np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count > 0))
