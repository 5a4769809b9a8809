"""Stand-ins for models and sensors, deterministic in their input: for tests of the daemon and of what drives it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_node.perception import Look, keep_context
from edge_node.screener import Decision
from edge_node.settings.evidence import EvidenceSettings
from edge_node.spool import OutboxBlobs
from fusion.geometry import Rig
from fusion.types import (
    Box2D,
    Detection,
    Evidence,
    Image,
    Modality,
    PixelCrop,
    Reading,
    Sample,
)
from fusion.wire.convert import serialize_evidence

FAKE_PROFILE = hashlib.sha256(b"fake trunk").hexdigest()


def detection(label_scores: Mapping[str, float], box: Box2D) -> Detection:
    """A detection with these class scores."""
    label = max(label_scores, key=lambda name: label_scores[name])
    scores = np.array(list(label_scores.values()), np.float32)
    return Detection(box, label, float(scores.max()), scores)


@dataclass(slots=True)
class FakePerception:
    """Sees what `see` says of a sample; without it, one to three boxes drawn from the sample's time."""

    task: str = "yard"
    classes: tuple[str, ...] = ("drum", "pallet", "crate", "cone", "person", "forklift")
    conditions: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    profile: str = FAKE_PROFILE
    models: Mapping[str, str] = field(default_factory=lambda: {"detector": "fake"})
    see: Callable[[Sample], Look] | None = None
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)

    def detect(self, sample: Sample) -> Look:
        """The scripted or drawn detections."""
        if self.see:
            return self.see(sample)
        draw = np.random.default_rng(sample.time_ns)
        return Look(tuple(self._one(draw, place) for place in range(int(draw.integers(1, 4)))))

    def fuse(self, sample: Sample, look: Look) -> Look:  # noqa: ARG002 the protocol's signature
        """As detected: it has no fusion model."""
        return look

    def _one(self, draw: np.random.Generator, place: int) -> Detection:
        scores = dict.fromkeys(self.classes, 0.02)
        scores[self.classes[place]] = float(draw.uniform(0.1, 0.95))
        x, y = 40 + 200 * place + float(draw.uniform(-4, 4)), 100 + float(draw.uniform(-4, 4))
        return detection(scores, Box2D(x, y, x + 80, y + 120))

    def encode(self, sample: Sample, look: Look, index: int, track: int, decision: Decision) -> OutboxBlobs:
        """Evidence without maps, a crop that is no picture, and what the sample holds of points and sound."""
        seen = look.detections[index]
        evidence = Evidence(
            item=decision.item,
            task=self.task,
            time_ns=sample.time_ns,
            track=track,
            profile=self.profile,
            models=self.models,
            box=seen.box,
            image_width=640,
            image_height=384,
            class_scores=dict(zip(self.classes, map(float, seen.class_scores), strict=True)),
            opinion=look.opinion(index),
            reasons=decision.reasons,
            value=decision.value,
            ages_ns={name: slot.age_ns for name, slot in sample.slots.items() if slot.reading},
        )
        crop = PixelCrop(f"picture of {decision.item}".encode(), "jpeg", seen.box)
        kept = keep_context(self.evidence, sample, "front", seen.box, evidence.opinion.box3d)
        return OutboxBlobs(serialize_evidence(evidence), self.profile, replace(kept, pixels=crop))


@dataclass(slots=True)
class FakeSource:
    """Plays `script` from memory; `content` names it."""

    script: Sequence[Reading]
    content: str = hashlib.sha256(b"fake recording").hexdigest()
    continuous: bool = True
    sensors: frozenset[str] = frozenset({"front"})
    rig: Rig | None = None

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        """The script after position `cursor`; the first reading's position is 1."""
        yield from enumerate(self.script[cursor:], cursor + 1)


def camera_frames(count: int, *, sensor: str = "front", rate_hz: float = 10.0, start_ns: int = 10**9) -> list[Reading]:
    """`count` black pictures at `rate_hz`."""
    picture = Image(np.zeros((4, 4, 3), np.uint8))
    period = round(1e9 / rate_hz)
    return [Reading(sensor, Modality.CAMERA, start_ns + i * period, picture) for i in range(count)]
