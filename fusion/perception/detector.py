"""The detector on the device: one pass gives boxes, the int8 neck maps, and scores a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.clock import Clock, SystemClock
from fusion.codec import Profile
from fusion.engines import Array, Engine
from fusion.errors import ModelError
from fusion.perception.suppression import suppress
from fusion.preparation import InputBuffer, Placement
from fusion.task import Task
from fusion.types import Box2D, Detection, Float32Array, Image, Int8Array

_CANDIDATES = 512
"""Boxes that enter suppression, best first."""
_INPUT = "images"
_PREDICTIONS = "predictions"
_CONDITIONS = "conditions"
_LEAST_SCORE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class DetectorResult:
    """What the detector makes of one picture. Boxes are in pixels of the model's input, which `placement` explains, and
    lie in the part of it that the picture takes.

    `detections` are sorted by score. `maps` are the trunk's codes, one (K, h, w) int8 a level, finest first;
    `cell_scores` the best class score a cell, (h, w) float32. `engine_ns` is the engine's part of the time.
    """

    detections: tuple[Detection, ...]
    maps: list[Int8Array]
    cell_scores: list[Float32Array]
    placement: Placement
    engine_ns: int


class DetectorStage:
    """Runs the trunk of one task. Not thread-safe.

    Detections score at least `score_floor`; of one class, none overlaps a better one by more than `iou`, and of any by
    more than `across`; at most `max_detections` are told. Raises `ModelError` when the graph is not the task's or not
    the profile's.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        profile: Profile,
        *,
        score_floor: float = 0.05,
        iou: float = 0.5,
        across: float = 0.7,
        max_detections: int = 32,
        clock: Clock | None = None,
    ) -> None:
        self.task = task
        self.profile = profile
        self._engine = engine
        self._score_floor = score_floor
        self._iou, self._across = iou, across
        self._max_detections = max_detections
        self._clock = clock or SystemClock()
        self._buffer = InputBuffer(profile.image_width, profile.image_height)
        self._sizes = [profile.map_size(i) for i in range(len(profile.levels))]
        anchors = sum(height * width for height, width in self._sizes)
        self._shapes = {_PREDICTIONS: (1, 4 + len(task.classes), anchors)} | {
            level.name: (1, level.channels, *size) for level, size in zip(profile.levels, self._sizes, strict=True)
        }
        if set(engine.inputs) != {_INPUT}:
            raise ModelError(f"the detector of {task.name} takes inputs {sorted(engine.inputs)} instead of {_INPUT!r}")

    def run(self, image: Image) -> DetectorResult:
        """Detect in one picture of any size."""
        planes, placement = self._buffer.fill(image.pixels)
        started = self._clock.monotonic_ns()
        outputs = self._engine.run({_INPUT: planes})
        engine_ns = self._clock.monotonic_ns() - started
        self._check(outputs)
        predictions: Float32Array = outputs[_PREDICTIONS][0]
        best = predictions[4:].max(0)
        conditions = outputs[_CONDITIONS][0] if _CONDITIONS in outputs else np.zeros((0, len(best)), np.float32)
        return DetectorResult(
            self._detections(predictions, best, conditions, _frame_limits(image, placement)),
            [outputs[level.name][0] for level in self.profile.levels],
            self._by_level(best),
            placement,
            engine_ns,
        )

    def _check(self, outputs: Mapping[str, Array]) -> None:
        wanted = self._shapes
        if _CONDITIONS in outputs:
            wanted = wanted | {_CONDITIONS: (1, len(self.task.conditions), self._shapes[_PREDICTIONS][2])}
        for name, shape in wanted.items():
            found = outputs[name].shape if name in outputs else None
            if found != shape:
                raise ModelError(f"the detector's output {name!r} has shape {found}; task and profile need {shape}")

    def _by_level(self, best: Float32Array) -> list[Float32Array]:
        """The anchors' best scores (A,) as one (h, w) map a level: the head lists them level by level, row by row."""
        ends = np.cumsum([height * width for height, width in self._sizes])
        return [part.reshape(size) for part, size in zip(np.split(best, ends[:-1]), self._sizes, strict=True)]

    def _detections(
        self, predictions: Float32Array, best: Float32Array, conditions: Float32Array, limits: Float32Array
    ) -> tuple[Detection, ...]:
        found = np.flatnonzero(best >= self._score_floor)
        if len(found) > _CANDIDATES:
            found = np.sort(found[np.argpartition(-best[found], _CANDIDATES)[:_CANDIDATES]])
        columns = predictions[:, found]
        corners = _corners(columns[:4], limits)
        usable = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1]) & np.isfinite(columns[:4]).all(0)
        corners, class_scores, scores = corners[usable], columns[4:, usable].T, best[found][usable]
        condition_scores = _shares(conditions[:, found[usable]].T)
        labels = class_scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
        kept = suppress(corners, labels, scores, iou=self._iou, across=self._across, most=self._max_detections)
        return tuple(
            Detection(
                Box2D(*(float(v) for v in corners[i])),
                self.task.classes[labels[i]],
                float(scores[i]),
                np.ascontiguousarray(class_scores[i]),
                np.ascontiguousarray(condition_scores[i]),
            )
            for i in kept
        )


def _frame_limits(image: Image, placement: Placement) -> Float32Array:
    """The part of the model's input that a picture takes, as x1 y1 x2 y2: what is beside it is padding."""
    height, width = image.pixels.shape[:2]
    part = placement.from_frame(Box2D(0.0, 0.0, float(width), float(height)))
    return np.array([part.x1, part.y1, part.x2, part.y2], np.float32)


def _corners(boxes: Float32Array, limits: Float32Array) -> Float32Array:
    """Boxes (4, n) of centre and size as corners (n, 4), clipped to `limits` (4,): x1 y1 x2 y2."""
    half = boxes[2:] / 2
    corners = np.concatenate([boxes[:2] - half, boxes[:2] + half]).T
    return np.asarray(np.clip(corners, np.tile(limits[:2], 2), np.tile(limits[2:], 2)), np.float32)


def _shares(scores: Float32Array) -> Float32Array:
    """Each row of `scores` (n, K) divided by its sum."""
    return np.asarray(scores / np.maximum(scores.sum(1, keepdims=True), _LEAST_SCORE), np.float32)
