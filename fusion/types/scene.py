"""What is in a sample: truth, detections and fused objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusion.types.sensor import Float32Array


@dataclass(frozen=True, slots=True)
class Box2D:
    """An axis-aligned box in image pixels, corners `x1 y1 x2 y2`, origin at the top left corner."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def area(self) -> float:
        """Area in square pixels; 0 for an empty box."""
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)

    def iou(self, other: Box2D) -> float:
        """Intersection over union with `other`, 0..1."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, slots=True)
class Box3D:
    """A box in the ego frame (REP-103): centre and size in metres (length along x, width y, height z).

    `yaw` turns it about z, in radians.
    """

    x: float
    y: float
    z: float
    length: float
    width: float
    height: float
    yaw: float


@dataclass(frozen=True, slots=True)
class TruthObject:
    """One object a recording's truth tells of. Unknown parts are None.

    `velocity` is over ground, along the ego frame's x and y axes at that moment, in m/s.
    """

    track: int
    label: str
    condition: str | None = None
    box2d: Box2D | None = None
    box3d: Box3D | None = None
    asked_for: bool = False
    action: str | None = None
    visibility: float = 1.0
    velocity: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of one moment. `intent` is what was said in the utterance still in effect."""

    time_ns: int
    objects: tuple[TruthObject, ...]
    intent: str | None = None
    transcript: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One box of the detector: `class_scores` (C,) float32 in 0..1, `score` their maximum.

    `condition_scores` (K,) float32 share out 1 among the task's conditions; empty when the detector does not tell them.
    """

    box: Box2D
    label: str
    score: float
    class_scores: Float32Array
    condition_scores: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class FusedObject:
    """One object after fusion. `token` (D,) float32 is its fused token; probabilities by option name."""

    token: Float32Array
    label_scores: dict[str, float]
    condition_scores: dict[str, float]
    asked_score: float
    box3d: Box3D | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FusedScene:
    """The fuser's answer for one sample.

    `objects[i]` belongs to detection i. `latents` (L, D) float32 are the scene's tokens, the pooled
    screening vector first. `ages_ns` says which sensors were read and how old each was.
    """

    objects: tuple[FusedObject, ...]
    latents: Float32Array
    intent_scores: dict[str, float] = field(default_factory=dict)
    ages_ns: dict[str, int] = field(default_factory=dict)
