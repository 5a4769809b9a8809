"""Geometry and the device's opinions as one vector, `FeatureLayout.opinion_width` float32 numbers.

In order: the box (centre, size, log size, log area, relative to the image); the detector's class scores as
probabilities and as scaled log-odds; and, where the task has a fused model, label, condition and asked-for
probabilities the same two ways, whether there were any, the 3-D box, and a presence bit and an age a sensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fusion.errors import EvidenceError
from fusion.review.layout import AGE_WIDTH, BOX3D_WIDTH, FeatureLayout
from fusion.types import Box2D, Box3D, Evidence, Float32Array

_ODDS_LIMIT = 8.0
_RANGE_M = 20.0
_MAX_AGE_S = 5.0
_MAX_METRES = 1e4


def opinion_vector(evidence: Evidence, layout: FeatureLayout) -> Float32Array:
    """The vector of one item. Raises `EvidenceError` naming the item and the field that is out of range."""
    parts = [
        _box(evidence.item, evidence.box, layout),
        _scores(evidence, "class", evidence.class_scores, layout.classes),
    ]
    if layout.token_width:
        parts += _heads(evidence, layout)
        parts += [_box3d(evidence, evidence.opinion.box3d), _ages(evidence, layout.sensors)]
    vector = np.concatenate(parts, dtype=np.float32)
    assert vector.shape == (layout.opinion_width,)
    return vector


def _box(item: object, box: Box2D, layout: FeatureLayout) -> Float32Array:
    corners = np.array([box.x1, box.y1, box.x2, box.y2], np.float64)
    size = np.array([layout.image_width, layout.image_height], np.float64)
    inside = np.isfinite(corners).all() and (np.abs(corners) <= 2 * size.max()).all()
    if not inside or box.area <= 0:
        raise EvidenceError(f"{item}: its box {corners.tolist()} is empty or outside the image")
    centre = (corners[:2] + corners[2:]) / 2 / size
    extent = np.maximum((corners[2:] - corners[:2]) / size, 1e-4)
    return np.array([*centre, *extent, *(np.log(extent) / 4), np.log(extent.prod()) / 8], np.float32)


def _scores(evidence: Evidence, what: str, scores: Mapping[str, float], names: Sequence[str]) -> Float32Array:
    unknown = set(scores) - set(names)
    if unknown:
        raise EvidenceError(
            f"{evidence.item}: {what} score of {min(unknown)!r}, which task {evidence.task} does not have"
        )
    return _two_ways(evidence, what, [scores.get(name, 0.0) for name in names])


def _two_ways(evidence: Evidence, what: str, values: Sequence[float]) -> Float32Array:
    p = np.array(values, np.float64)
    if not (np.isfinite(p).all() and (p >= -1e-6).all() and (p <= 1 + 1e-6).all()):
        raise EvidenceError(f"{evidence.item}: a {what} score is not a probability")
    clipped = np.clip(p, 1e-4, 1 - 1e-4)
    return np.concatenate([p, np.log(clipped / (1 - clipped)) / _ODDS_LIMIT], dtype=np.float32)


def _heads(evidence: Evidence, layout: FeatureLayout) -> list[Float32Array]:
    opinion = evidence.opinion
    given = bool(opinion.label_scores or opinion.condition_scores or opinion.asked_score is not None)
    return [
        _scores(evidence, "label", opinion.label_scores, layout.labels),
        _scores(evidence, "condition", opinion.condition_scores, layout.conditions),
        _two_ways(evidence, "asked-for", [opinion.asked_score or 0.0]),
        np.array([given], np.float32),
    ]


def _box3d(evidence: Evidence, box: Box3D | None) -> Float32Array:
    if box is None:
        return np.zeros(BOX3D_WIDTH, np.float32)
    metres = np.array([box.x, box.y, box.z, box.length, box.width, box.height], np.float64)
    if not (np.isfinite(metres).all() and (np.abs(metres) <= _MAX_METRES).all() and np.isfinite(box.yaw)):
        raise EvidenceError(f"{evidence.item}: its 3-D box holds numbers that are not finite or beyond 10 km")
    size = np.log(np.clip(metres[3:], 0.05, 20.0))
    position = np.clip(metres[:3] / _RANGE_M, -5, 5)
    return np.array([1.0, *position, *size, np.sin(box.yaw), np.cos(box.yaw)], np.float32)


def _ages(evidence: Evidence, sensors: Sequence[str]) -> Float32Array:
    unknown = set(evidence.ages_ns) - set(sensors)
    if unknown:
        raise EvidenceError(
            f"{evidence.item}: age of sensor {min(unknown)!r}, which task {evidence.task} does not have"
        )
    ages = np.zeros((len(sensors), AGE_WIDTH), np.float32)
    for index, name in enumerate(sensors):
        if name in evidence.ages_ns:
            ages[index] = 1.0, min(max(evidence.ages_ns[name] * 1e-9, 0.0), _MAX_AGE_S)
    return ages.ravel()
