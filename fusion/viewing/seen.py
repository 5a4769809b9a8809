"""One moment of a recording as a model saw it, whatever kind of model that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fusion.evaluation.scene_picture import Shot
from fusion.types import Box3D, Float32Array, Modality, TruthObject


class Part(StrEnum):
    """What part a sensor had in an answer."""

    READ = "read"
    SILENT = "silent"
    WITHHELD = "withheld"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class SeenSensor:
    """One sensor of the task at a moment.

    `age_s` seconds from its capture to the moment, for a microphone from the end of the utterance in effect; None
    unless it was read. `points` of the sweeps of a LiDAR that was read. A silent microphone is there and nobody spoke.
    """

    name: str
    modality: Modality
    part: Part
    age_s: float | None = None
    points: int | None = None

    @property
    def text(self) -> str:
        """Name, part and age in a few words."""
        if self.part is not Part.READ or self.age_s is None:
            return f"{self.name} ({self.part})"
        if self.modality is Modality.SPEECH:
            return f"{self.name} heard {self.age_s:.1f} s ago"
        points = "" if self.points is None else f", {self.points:,} points"
        return f"{self.name} {self.age_s * 1e3:.0f} ms{points}"


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One thing that was found: its box in the ego frame, scores in 0..1, `velocity` m/s along the ego frame's x and y.

    None is what the model does not tell.
    """

    label: str
    score: float
    box: Box3D
    condition: str | None = None
    condition_score: float | None = None
    asked_score: float | None = None
    velocity: tuple[float, float] | None = None

    @property
    def asked(self) -> bool:
        """Whether it is more likely than not the one that was asked for."""
        return self.asked_score is not None and self.asked_score >= 0.5


@dataclass(frozen=True, slots=True)
class Heard:
    """The intent of the utterance in effect, with its probability."""

    intent: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class SeenFrame:
    """A moment: `time_ns` of the recording's clock, `at_s` seconds after its first reading.

    `points` (n, 3 or more) float32 metres in the ego frame are those the model had. `truth` is None where nobody told
    it, `said` what truly was said. `notes` are remarks for whoever judges the picture.
    """

    time_ns: int
    at_s: float
    shots: Sequence[Shot]
    points: Float32Array
    objects: Sequence[SeenObject]
    sensors: Sequence[SeenSensor]
    heard: Heard | None = None
    truth: Sequence[TruthObject] | None = None
    said: str = ""
    notes: Sequence[str] = ()
