"""The nuScenes detection metric as nuscenes-devkit is built: one object a box, loops over classes, thresholds, boxes.

Stands in for nuscenes-devkit, which wants numpy < 2. As there, each box is an object, each distance and error a
call on it, and every threshold goes through all boxes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.evaluation.nuscenes import DISTANCES_M, ERRORS, NOT_MEASURED
from fusion.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES, NuScenesBoxes
from fusion.evaluation.nuscenes_filter import CLASS_RANGE_M


@dataclass(slots=True)
class Box:
    """One box, its fields named as in a submission."""

    sample_token: str
    detection_name: str
    attribute_name: str
    translation: list[float]
    size: list[float]
    rotation: list[float]
    velocity: list[float]
    ego_translation: list[float]
    num_pts: float
    detection_score: float


Samples = dict[str, list[Box]]


def samples(boxes: NuScenesBoxes) -> Samples:
    """Boxes as the devkit holds them: a list a sample."""
    by_sample: Samples = {token: [] for token in boxes.samples}
    for row in range(len(boxes)):
        token = boxes.samples[boxes.sample[row]]
        by_sample[token].append(
            Box(
                token,
                CLASSES[boxes.label[row]],
                ATTRIBUTES[boxes.attribute[row]],
                boxes.translation[row].tolist(),
                boxes.size[row].tolist(),
                boxes.rotation[row].tolist(),
                boxes.velocity[row].tolist(),
                boxes.ego_translation[row].tolist(),
                float(boxes.points[row]),
                float(boxes.score[row]),
            )
        )
    return by_sample


def evaluate(truth: Samples, predictions: Samples) -> dict[str, Any]:
    """mAP, NDS and what they are made of, with the devkit's names."""
    truth, predictions = _filtered(truth), _filtered(predictions)
    aps: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for name in CLASSES:
        aps[name] = {}
        for distance in DISTANCES_M:
            data = _accumulate(truth, predictions, name, distance)
            precision = np.maximum(data["precision"][11:] - 0.1, 0)
            aps[name][str(distance)] = float(np.mean(precision)) / 0.9
            if distance == 2.0:
                errors[name] = {error: _mean_error(data, name, error) for error in ERRORS}
    mean_ap = float(np.mean([np.mean(list(by_distance.values())) for by_distance in aps.values()]))
    tp_errors = {error: float(np.nanmean([errors[name][error] for name in CLASSES])) for error in ERRORS}
    scores = [max(0.0, 1 - value) for value in tp_errors.values()]
    return {
        "mean_ap": mean_ap,
        "nd_score": (5 * mean_ap + sum(scores)) / 10,
        "tp_errors": tp_errors,
        "label_aps": aps,
        "label_tp_errors": errors,
    }


def _filtered(by_sample: Samples) -> Samples:
    return {
        token: [
            box
            for box in boxes
            if np.sqrt(np.sum(np.array(box.ego_translation[:2]) ** 2)) < CLASS_RANGE_M[box.detection_name]
            and box.num_pts != 0
        ]
        for token, boxes in by_sample.items()
    }


def _accumulate(truth: Samples, predictions: Samples, name: str, distance: float) -> dict[str, Any]:
    """Precision, score and errors at the 101 recall positions."""
    positives = sum(box.detection_name == name for boxes in truth.values() for box in boxes)
    found = [box for boxes in predictions.values() for box in boxes if box.detection_name == name]
    order = sorted(range(len(found)), key=lambda index: (found[index].detection_score, index), reverse=True)
    hits: list[int] = []
    scores: list[float] = []
    matched: dict[str, list[float]] = {error: [] for error in (*ERRORS, "score")}
    taken: set[tuple[str, int]] = set()
    for index in order:
        box = found[index]
        nearest, nearest_index = np.inf, -1
        for truth_index, label in enumerate(truth[box.sample_token]):
            if label.detection_name == name and (box.sample_token, truth_index) not in taken:
                apart = _distance(label, box)
                if apart < nearest:
                    nearest, nearest_index = apart, truth_index
        hits.append(int(nearest < distance))
        scores.append(box.detection_score)
        if nearest < distance:
            taken.add((box.sample_token, nearest_index))
            _note_errors(matched, truth[box.sample_token][nearest_index], box)
    zeros, ones = np.zeros(101), np.ones(101)
    if not matched["score"]:
        return {"precision": zeros, "score": zeros, **dict.fromkeys(ERRORS, ones)}
    cumulated = np.cumsum(hits).astype(float)
    recall = cumulated / positives
    grid = np.linspace(0, 1, 101)
    score = np.interp(grid, recall, scores, right=0)
    data = {
        "precision": np.interp(grid, recall, cumulated / np.arange(1, len(hits) + 1), right=0),
        "score": score,
    }
    for error in ERRORS:
        mean = _running_mean(np.array(matched[error]))
        data[error] = np.interp(score[::-1], np.array(matched["score"])[::-1], mean[::-1])[::-1]
    return data


def _distance(a: Box, b: Box) -> float:
    return float(np.linalg.norm(np.array(b.translation[:2]) - np.array(a.translation[:2])))


def _note_errors(matched: dict[str, list[float]], label: Box, box: Box) -> None:
    shared = np.prod(np.minimum(label.size, box.size))
    period = np.pi if label.detection_name == "barrier" else 2 * np.pi
    turn = (_yaw(label) - _yaw(box) + period / 2) % period - period / 2
    matched["trans_err"].append(_distance(label, box))
    matched["scale_err"].append(float(1 - shared / (np.prod(label.size) + np.prod(box.size) - shared)))
    matched["orient_err"].append(abs(turn))
    matched["vel_err"].append(float(np.linalg.norm(np.array(box.velocity) - np.array(label.velocity))))
    known = bool(label.attribute_name)
    matched["attr_err"].append(float(label.attribute_name != box.attribute_name) if known else np.nan)
    matched["score"].append(box.detection_score)


def _yaw(box: Box) -> float:
    w, x, y, z = np.array(box.rotation) / np.linalg.norm(box.rotation)
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def _running_mean(values: np.ndarray) -> np.ndarray:
    if np.isnan(values).all():
        return np.ones(len(values))
    count = np.cumsum(~np.isnan(values))
    return np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count != 0)


def _mean_error(data: dict[str, Any], name: str, error: str) -> float:
    if error in NOT_MEASURED.get(name, ()):
        return np.nan
    reached = np.nonzero(data["score"])[0]
    last = reached[-1] if len(reached) else 0
    return float(np.mean(data[error][11 : last + 1])) if last >= 11 else 1.0
