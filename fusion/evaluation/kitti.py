"""KITTI object detection: average precision of image boxes, orientation, bird's eye view and 3-D boxes.

Rules and figures are those of the benchmark's development kit (Geiger et al., CVPR 2012), with 40 recall positions as
Simonelli et al. (ICCV 2019) asked for and 11 as before; docs/metrics.md lists them, and where this evaluator differs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from fusion.errors import InputError
from fusion.evaluation.kitti_labels import DONT_CARE, KittiObjects
from fusion.evaluation.kitti_report import RECALL_POSITIONS, AveragePrecision, KittiMetrics
from fusion.evaluation.matching import IndexArray, match_in_order, pairs_within_groups
from fusion.evaluation.rotated_iou import bev_and_box_iou, image_intersection, image_iou
from fusion.types import BoolArray, Float64Array

CLASSES = ("Car", "Pedestrian", "Cyclist")
NEUTRAL_FOR = {"Car": "Van", "Pedestrian": "Person_sitting"}
"""A label of this class is neither hit nor miss when the other one is evaluated."""
METRICS = ("bbox", "aos", "bev", "3d")
MIN_OVERLAP: Mapping[str, Mapping[str, float]] = {
    "strict": {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5},
    "loose": {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25},
}
"""Overlap that a hit must exceed, by set and class. In the image (bbox, aos) the strict one always holds."""
ALPHA_NOT_TOLD = -10
_CHUNK = 4096
"""Labels compared with detections at a time, which bounds the memory."""


class Difficulty(NamedTuple):
    """Labels count that are taller than `min_height` pixels and occluded and truncated no more than the limits."""

    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = {"easy": Difficulty(40, 0, 0.15), "moderate": Difficulty(25, 1, 0.3), "hard": Difficulty(25, 2, 0.5)}


def evaluate_kitti(labels: Sequence[KittiObjects], detections: Sequence[KittiObjects]) -> KittiMetrics:
    """The metrics of frames whose labels and detections come in the same order.

    A figure is None where it has no meaning: no label counts, some detection does not tell alpha (aos), or no detection
    has a box in space (bev, 3d). Raises `InputError` if the two are not of the same number of frames.
    """
    if len(labels) != len(detections):
        raise InputError(f"{len(labels)} frames of labels, {len(detections)} of detections")
    scene = _overlapping(labels, detections)
    values = [value for name in CLASSES for level in DIFFICULTIES for value in _class_values(scene, name, level)]
    return KittiMetrics(len(labels), tuple(values))


def recall_thresholds(scores: Float64Array, labels: int) -> Float64Array:
    """Scores (T,), falling, at which precision is measured, of the `scores` (N,) of hits among so many `labels`.

    One for each recall position 0, 1/40, ... that is reached, each belonging to another hit: so T is at most N, and
    with fewer than 41 labels the last positions stay out of reach.
    """
    falling = np.sort(scores)[::-1]
    last = len(falling) - 1
    chosen: list[int] = []
    hit, recall = 0, 0.0
    while hit <= last:
        hit = bisect_left(range(last), True, hit, key=partial(_is_nearest, labels, recall))
        chosen.append(hit)
        hit += 1
        recall += 1 / (RECALL_POSITIONS - 1)
    return np.asarray(falling[chosen])


def _is_nearest(labels: int, recall: float, hit: int) -> bool:
    """Whether the recall after `hit` (from 0) is as near to `recall` as after the next one; in the kit's own floats."""
    return not (hit + 2) / labels - recall < recall - (hit + 1) / labels


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """Labels (N) and detections (M) of all frames, and those pairs (P) of one frame that overlap."""

    labels: KittiObjects
    detections: KittiObjects
    label: IndexArray  # (P,), ascending
    detection: IndexArray  # (P,)
    overlaps: Mapping[str, Float64Array]  # by metric, (P,)
    similarity: Float64Array  # (P,) of the two observation angles, 0..1
    covered: Float64Array  # (M,) the largest share of the detection's image box in one DontCare region


def _overlapping(labels: Sequence[KittiObjects], detections: Sequence[KittiObjects]) -> _Scene:
    truth, found = KittiObjects.joined(labels), KittiObjects.joined(detections)
    truth_frame, found_frame = (np.repeat(np.arange(len(p)), [len(o) for o in p]) for p in (labels, detections))
    rows = np.flatnonzero(np.isin(truth.names, [*CLASSES, *NEUTRAL_FOR.values()]))
    parts = [
        _overlapping_pairs(truth, found, rows[start : start + _CHUNK], truth_frame, found_frame)
        for start in range(0, max(len(rows), 1), _CHUNK)
    ]
    left, right, image, above, in_space = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Scene(
        truth,
        found,
        left,
        right,
        {"bbox": image, "bev": above, "3d": in_space},
        (1 + np.cos(truth.alpha[left] - found.alpha[right])) / 2,
        _covered(truth, truth_frame, found, found_frame),
    )


def _overlapping_pairs(
    truth: KittiObjects, found: KittiObjects, rows: IndexArray, truth_frame: IndexArray, found_frame: IndexArray
) -> tuple[IndexArray, IndexArray, Float64Array, Float64Array, Float64Array]:
    """Pairs of the labels `rows` with detections: two indices, overlap by image, from above, in space; (P,) each."""
    left, right = pairs_within_groups(truth_frame[rows], found_frame)
    left = rows[left]
    image = image_iou(truth.image_boxes[left], found.image_boxes[right])
    above, in_space = bev_and_box_iou(truth.upright_boxes(left), found.upright_boxes(right))
    keep = np.flatnonzero(np.maximum(image, above) > min(MIN_OVERLAP["loose"].values()))
    return left[keep], right[keep], image[keep], above[keep], in_space[keep]


def _covered(
    truth: KittiObjects, truth_frame: IndexArray, found: KittiObjects, found_frame: IndexArray
) -> Float64Array:
    regions = np.flatnonzero(truth.names == DONT_CARE)
    left, right = pairs_within_groups(truth_frame[regions], found_frame)
    shared = image_intersection(truth.image_boxes[regions[left]], found.image_boxes[right])
    area = (found.image_boxes[right, 2:] - found.image_boxes[right, :2]).prod(1)
    covered = np.zeros(len(found))
    np.maximum.at(covered, right, np.divide(shared, area, out=np.zeros_like(shared), where=shared > 0))
    return covered


@dataclass(frozen=True, slots=True, eq=False)
class _Roles:
    """What labels (N,) and detections (M,) are to one class at one difficulty; others play no part."""

    label_counts: BoolArray
    label_neutral: BoolArray
    detection_counts: BoolArray
    detection_neutral: BoolArray


def _roles(scene: _Scene, name: str, level: Difficulty) -> _Roles:
    truth, found = scene.labels, scene.detections
    named = truth.names == name
    hard = (truth.occluded > level.max_occlusion) | (truth.truncated > level.max_truncation)
    hard |= truth.image_boxes[:, 3] - truth.image_boxes[:, 1] <= level.min_height
    short = found.image_boxes[:, 3] - found.image_boxes[:, 1] < level.min_height
    return _Roles(
        named & ~hard,
        (named & hard) | (truth.names == NEUTRAL_FOR.get(name, "")),
        (found.names == name) & ~short,
        short,  # of whatever class: the development kit looks at the height first
    )


def _class_values(scene: _Scene, name: str, difficulty: str) -> list[AveragePrecision]:
    roles = _roles(scene, name, DIFFICULTIES[difficulty])
    labels = int(roles.label_counts.sum())
    curves: dict[tuple[str, float], tuple[Float64Array, Float64Array]] = {}
    values = []
    for overlaps, by_class in MIN_OVERLAP.items():
        for metric in METRICS:
            in_image = metric in {"bbox", "aos"}
            least = MIN_OVERLAP["strict"][name] if in_image else by_class[name]
            key = ("bbox" if in_image else metric, least)
            if key not in curves:
                curves[key] = _curves(scene, roles, *key)
            curve = curves[key][metric == "aos"]
            defined = labels > 0 and _told(scene.detections, metric)
            r11, r40 = (float(curve[::4].mean() * 100), float(curve[1:].mean() * 100)) if defined else (None, None)
            values.append(AveragePrecision(name, difficulty, overlaps, metric, least, labels, r11, r40))
    return values


def _told(detections: KittiObjects, metric: str) -> bool:
    """Whether the detections say what a metric is about."""
    if metric == "aos":
        return bool((detections.alpha != ALPHA_NOT_TOLD).all())
    return metric == "bbox" or not len(detections) or bool((detections.dimensions > 0).all(1).any())


def _curves(scene: _Scene, roles: _Roles, metric: str, least: float) -> tuple[Float64Array, Float64Array]:
    """Precision and orientation similarity at the recall positions, (41,) each, made non-increasing."""
    plays = (roles.label_counts | roles.label_neutral)[scene.label]
    plays &= (roles.detection_counts | roles.detection_neutral)[scene.detection]
    pairs = np.flatnonzero(plays & (scene.overlaps[metric] > least))
    thresholds = recall_thresholds(_hit_scores(scene, roles, pairs), int(roles.label_counts.sum()))

    scores, neutral = scene.detections.scores, ~roles.detection_counts
    closeness = np.where(neutral[scene.detection[pairs]], 0.0, scene.overlaps[metric][pairs])
    # a label takes the closest detection that counts; only without one the first that is neutral
    pairs = pairs[np.lexsort((-closeness, neutral[scene.detection[pairs]], scene.label[pairs]))]
    label, detection = scene.label[pairs], scene.detection[pairs]
    taken = match_in_order(label, detection, scores[detection, None] >= thresholds)
    punishable = roles.detection_counts & ~((metric == "bbox") & (scene.covered > least))
    hits = taken & (roles.label_counts[label] & roles.detection_counts[detection])[:, None]
    found = hits.sum(0)
    rising = np.sort(scores[punishable])
    false = len(rising) - np.searchsorted(rising, thresholds) - (taken & punishable[detection, None]).sum(0)
    return (
        _non_increasing(found, found + false),
        _non_increasing(scene.similarity[pairs] @ hits, found + false),
    )


def _hit_scores(scene: _Scene, roles: _Roles, pairs: IndexArray) -> Float64Array:
    """Scores of the hits when each label takes its highest-scoring detection, of `pairs` in label order."""
    scores = scene.detections.scores
    pairs = pairs[np.lexsort((-scores[scene.detection[pairs]], scene.label[pairs]))]
    label, detection = scene.label[pairs], scene.detection[pairs]
    taken = match_in_order(label, detection, np.ones((len(pairs), 1), np.bool_))[:, 0]
    return np.asarray(scores[detection[taken & roles.label_counts[label] & roles.detection_counts[detection]]])


def _non_increasing(part: Float64Array | IndexArray, whole: IndexArray) -> Float64Array:
    curve = np.zeros(RECALL_POSITIONS)
    share = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    curve[: len(share)] = np.maximum.accumulate(share[::-1])[::-1]
    return curve
