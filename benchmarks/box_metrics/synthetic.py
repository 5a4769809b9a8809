"""Made-up truth and detections of a road, for timing and for comparing evaluators."""

from __future__ import annotations

import numpy as np

from fusion.evaluation.kitti_labels import KittiObjects
from fusion.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES, NuScenesBoxes
from fusion.types import Float64Array

_SIZES = {"Car": (1.5, 1.6, 3.9), "Pedestrian": (1.75, 0.6, 0.8), "Cyclist": (1.7, 0.6, 1.8), "Van": (2.2, 1.9, 5.0)}
_KINDS = ("Car", "Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "DontCare")
_FOCAL, _MIDDLE = 700.0, (620.0, 180.0)


def kitti_frames(frames: int, seed: int) -> tuple[list[KittiObjects], list[KittiObjects]]:
    """Labels and detections of so many frames; scores have two decimals, so that some are equal."""
    rng = np.random.default_rng(seed)
    labels, detections = [], []
    for _ in range(frames):
        count = rng.integers(0, 16)
        names = [_KINDS[i] for i in rng.integers(0, len(_KINDS), count)]
        boxes = [_box(rng, name) for name in names]
        rows = [_kitti_row(rng, box, occluded=True) for box in boxes]
        labels.append(KittiObjects.from_rows(names, rows))
        found_names, found = [], []
        for name, box in zip(names, boxes, strict=True):
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                scale = rng.choice([0.0, 0.05, 0.05, 0.4])
                found_names.append("Cyclist" if rng.random() < 0.1 or name not in _SIZES else name)
                found.append(box + rng.normal(0, scale, 7) * [1, 0.3, 1, 0.3, 0.3, 0.6, 0.5])
        for _ in range(rng.integers(0, 5)):
            found_names.append(("Car", "Pedestrian", "Cyclist")[rng.integers(3)])
            found.append(_box(rng, found_names[-1]))
        scored = [[*_kitti_row(rng, box, occluded=False), round(float(rng.random()), 2)] for box in found]
        detections.append(KittiObjects.from_rows(found_names, scored))
    return labels, detections


def _box(rng: np.random.Generator, name: str) -> Float64Array:
    """x, y, z, height, width, length, rotation_y in the camera frame."""
    size = np.array(_SIZES.get(name, _SIZES["Pedestrian"])) * rng.normal(1, 0.08, 3)
    return np.array([rng.uniform(-10, 10), 1.65, rng.uniform(6, 40), *size, rng.uniform(-3.1, 3.1)])


def _kitti_row(rng: np.random.Generator, box: Float64Array, *, occluded: bool) -> list[float]:
    x, y, z, height, width, length, turn = np.where([0, 0, 0, 1, 1, 1, 0], np.maximum(box, 0.2), box).tolist()
    depth = max(z, 1.0)
    across = (length + width) / 2
    left, right = (_MIDDLE[0] + _FOCAL * (x + side * across / 2) / depth for side in (-1, 1))
    top, bottom = (_MIDDLE[1] + _FOCAL * edge / depth for edge in (y - height, y))
    hidden = (float(rng.choice([0, 0, 0.2, 0.4, 0.6])), int(rng.integers(0, 4))) if occluded else (-1, -1)
    return [*hidden, turn - float(np.arctan2(x, depth)), left, top, right, bottom, height, width, length, x, y, z, turn]


def nuscenes_samples(samples: int, seed: int) -> tuple[NuScenesBoxes, NuScenesBoxes]:
    """Truth and predictions of so many samples, with equal scores, unknown velocities and boxes out of range."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 45, samples)
    truth = _nuscenes_boxes(rng, np.repeat(np.arange(samples), count), samples)
    picked = np.sort(rng.integers(0, max(len(truth), 1), int(1.3 * len(truth))))
    found = truth.where(picked)
    noise = rng.normal(0, 1, (len(found), 12)) * rng.choice([0.2, 1.0], (len(found), 1))
    moved = noise[:, :3] * [0.7, 0.7, 0.2]
    wrong = rng.random(len(found)) < 0.1
    found = NuScenesBoxes(
        found.samples,
        found.sample,
        np.where(wrong, rng.integers(0, len(CLASSES), len(found)), found.label),
        np.where(wrong, rng.integers(0, len(ATTRIBUTES), len(found)), found.attribute),
        found.translation + moved,
        np.maximum(found.size + 0.2 * noise[:, 3:6], 0.1),
        found.rotation + 0.1 * noise[:, 6:10],
        np.nan_to_num(found.velocity) + 0.5 * noise[:, 10:],
        found.ego_translation + moved,
        np.full(len(found), -1.0),
        np.round(rng.random(len(found)), 3),
    )
    return truth, found


def _nuscenes_boxes(rng: np.random.Generator, sample: np.ndarray, samples: int) -> NuScenesBoxes:
    boxes = len(sample)
    away = np.column_stack([rng.uniform(-55, 55, (boxes, 2)), rng.normal(0, 0.5, boxes)])
    turn = rng.uniform(-np.pi, np.pi, boxes) / 2
    velocity = rng.normal(0, 3, (boxes, 2))
    velocity[rng.random(boxes) < 0.1] = np.nan
    return NuScenesBoxes(
        tuple(f"sample-{index}" for index in range(samples)),
        sample,
        rng.integers(0, len(CLASSES), boxes),
        rng.integers(0, len(ATTRIBUTES), boxes),
        away + np.array([600.0, 1600.0, 0.0]),
        rng.uniform(0.4, 5, (boxes, 3)),
        np.column_stack([np.cos(turn), np.zeros((boxes, 2)), np.sin(turn)]),
        velocity,
        away,
        rng.integers(0, 12, boxes).astype(np.float64),
        np.full(boxes, np.nan),
    )
