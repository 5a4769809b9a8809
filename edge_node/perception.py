"""What the device sees in a sample, and what it sends of an item: the detector and the fuser behind one door."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

from edge_node.screener import Decision
from edge_node.settings.evidence import EvidenceSettings
from edge_node.spool import OutboxBlobs
from fusion.codec import Profile
from fusion.errors import InputError
from fusion.geometry import Rig
from fusion.perception.context import clip_sound, crop_points
from fusion.perception.detector import DetectorResult
from fusion.perception.evidence import crop_pixels, make_evidence
from fusion.perception.novelty import ReferenceTokens
from fusion.task import Task
from fusion.types import (
    Box2D,
    Box3D,
    Detection,
    DeviceOpinion,
    FusedObject,
    FusedScene,
    Image,
    KeptLanes,
    Modality,
    Sample,
    SensorSlot,
)
from fusion.wire.convert import serialize_evidence


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One sample as perceived. Boxes in pixels of the model's input: frame pixels * scale + (dx, dy) = `placement`.

    `novelty` is a distance for each detection, None where it is not known. `detail` is the detector's own
    result, for `Perception.encode`.
    """

    detections: tuple[Detection, ...]
    scene: FusedScene | None = None
    novelty: tuple[float | None, ...] = ()
    placement: tuple[float, float, float] = (1.0, 0.0, 0.0)
    engine_ns: int = 0
    detail: DetectorResult | None = None

    def fused(self, index: int) -> FusedObject | None:
        """What fusion makes of detection `index`."""
        return self.scene.objects[index] if self.scene else None

    def opinion(self, index: int) -> DeviceOpinion:
        """The device's own answer about detection `index`; empty without fusion."""
        fused = self.fused(index)
        if fused is None:
            return DeviceOpinion()
        return DeviceOpinion(fused.label_scores, fused.condition_scores, fused.asked_score, fused.box3d)


class Perception(Protocol):
    """What the pipeline asks of the models.

    `classes` and `conditions` name a detection's scores, `ordinary` those conditions that are no defect; `models` are
    the versions in evidence.
    """

    profile: str
    classes: tuple[str, ...]
    conditions: tuple[str, ...]
    ordinary: tuple[str, ...]
    models: Mapping[str, str]

    def detect(self, sample: Sample) -> Look:
        """What the detector makes of it. Raises `InputError` when it cannot see it, `ModelError` for a bad model."""

    def fuse(self, sample: Sample, look: Look) -> Look:
        """`look` with what all sensors together make of it; samples come in order. Raises as `detect` does.

        May work on one sample while another thread detects in the next.
        """

    def encode(self, sample: Sample, look: Look, index: int, track: int, decision: Decision) -> OutboxBlobs:
        """The evidence about detection `index`, with what is kept until it is asked for.

        Raises `InputError` where there can be none; the item alone is then closed.
        """


def keep_context(
    settings: EvidenceSettings, sample: Sample, camera: str, frame_box: Box2D, box3d: Box3D | None
) -> KeptLanes:
    """Points and sound around an item, as far as the settings allow; `frame_box` in pixels of `camera`'s frame."""
    return KeptLanes(
        points=crop_points(sample, box3d, camera, frame_box, settings.max_points) if settings.context_points else None,
        sound=clip_sound(sample, settings.sound_s) if settings.context_sound else None,
    )


class Detector(Protocol):
    """`fusion.perception.DetectorStage`, or its fake."""

    profile: Profile

    def run(self, image: Image) -> DetectorResult:
        """Detect in one picture."""


class Fuser(Protocol):
    """`models.TimedFusion`, or its fake."""

    engine_ns: int

    def run(
        self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None, detector: DetectorResult | None
    ) -> FusedScene:
        """Fuse what is there; `objects[i]` belongs to detection i. `engine_ns` is the engines' part of it."""

    def forget(self) -> None:
        """Begin another stream."""


class ModelPerception:
    """The task's models. `camera` is the sensor the detector reads; `fuser` is None where the task has none."""

    def __init__(
        self,
        task: Task,
        camera: str,
        detector: Detector,
        fuser: Fuser | None,
        models: Mapping[str, str],
        reference: ReferenceTokens | None = None,
        evidence: EvidenceSettings | None = None,
    ) -> None:
        self.profile = detector.profile.sha256
        self.classes, self.conditions, self.ordinary = task.classes, task.conditions, task.ordinary
        self.models = models
        self._task = task
        self._camera = camera
        self._detector = detector
        self._fuser = fuser
        self._reference = reference
        self._evidence = evidence or EvidenceSettings()

    def forget(self) -> None:
        """Begin another recording: nothing heard or seen in the last one counts."""
        if self._fuser:
            self._fuser.forget()

    def keeping(self, evidence: EvidenceSettings) -> ModelPerception:
        """The same models and memory, for a device that keeps and sends by other settings."""
        other = copy(self)
        other._evidence = evidence
        return other

    def detect(self, sample: Sample) -> Look:
        """Detect in the camera's picture."""
        found = self._detector.run(self._image(sample))
        place, unknown = found.placement, (None,) * len(found.detections)
        return Look(found.detections, None, unknown, (place.scale, place.dx, place.dy), found.engine_ns, found)

    def fuse(self, sample: Sample, look: Look) -> Look:
        """Fuse it with whatever else is there; as it is where there is no fusion model."""
        if self._fuser is None:
            return look
        scene, novelty = self._fuser.run(sample.time_ns, sample.slots, sample.rig, look.detail), look.novelty
        if self._reference:
            present = [modality for modality in Modality if set(self._task.of_modality(modality)) & set(scene.ages_ns)]
            novelty = self._reference.distances([thing.token for thing in scene.objects], present)
        return replace(look, scene=scene, novelty=novelty, engine_ns=look.engine_ns + self._fuser.engine_ns)

    def encode(self, sample: Sample, look: Look, index: int, track: int, decision: Decision) -> OutboxBlobs:
        """Maps, tokens and header as serialised evidence; what people see stays on the device until it is asked for."""
        assert look.detail is not None
        found = look.detail
        evidence = make_evidence(
            self._detector.profile, decision.item, self._task, sample.time_ns, track, found, look.scene, index,
            decision.reasons, decision.value, self.models, decision.grant.rate,
        )  # fmt: skip
        box = found.detections[index].box
        crop = crop_pixels(self._image(sample), found.placement, box)
        seen = found.placement.to_frame(box)
        kept = replace(keep_context(self._evidence, sample, self._camera, seen, evidence.opinion.box3d), pixels=crop)
        maps = evidence.maps.byte_size if evidence.maps else 0
        tokens = evidence.tokens.values.nbytes if evidence.tokens else 0
        return OutboxBlobs(serialize_evidence(evidence), self.profile, kept, maps, tokens)

    def _image(self, sample: Sample) -> Image:
        reading = sample.slots[self._camera].reading
        if reading is None or not isinstance(reading.payload, Image):
            raise InputError(f"no picture from {self._camera} at position {sample.source_cursor}")
        return reading.payload
