"""A recording through a bundle as a device runs it: a detector, and a fusion model of its items."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import InputError
from fusion.evaluation.scene_picture import Shot
from fusion.geometry import CameraCalibration, apply
from fusion.perception.detector import DetectorResult, DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.perception.fused import NOTHING, FusionStage
from fusion.preparation.surround import STRIDE, InputSize, camera_view
from fusion.recording.base import RecordingReader, open_recording
from fusion.synchronization import Aligned, Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import (
    Float32Array,
    FusedObject,
    FusedScene,
    Image,
    Modality,
    PointCloud,
    SensorSlot,
    Truth,
)
from fusion.viewing.calibration import check_calibration
from fusion.viewing.models import ChosenModel
from fusion.viewing.moments import Choice
from fusion.viewing.seen import Heard, Part, SeenFrame, SeenObject, SeenSensor

_LISTEN_S = 12.0
"""How long before the first moment listening begins: what was said then may still be in effect."""
_MOST = 32
_SAME_NS = 1_000_000

Slots = Mapping[str, SensorSlot]


class ItemViewer:
    """Shows `recording` to a bundle, without the sensors `withheld`; objects score at least `floor`.

    Moments are those of a device: every reading of the reference sensor. Raises `RecordingError` for a recording that
    cannot be read or has no calibration, `InputError` for one without the task's sensors, `ModelError` for a bundle
    that is not whole.
    """

    def __init__(
        self,
        recording: Path,
        chosen: ChosenModel,
        withheld: Collection[str] = (),
        *,
        floor: float = 0.3,
        split: str | None = None,
        threads: int = 2,
    ) -> None:
        task, folder = chosen.task, chosen.folder
        self._reader: RecordingReader = open_recording(recording, task, split)
        self._info = self._reader.info()
        self._rig = check_calibration(self._info, task, withheld)
        self._task, self._withheld, self._floor = task, frozenset(withheld), floor
        self._reference = _reference(task, {n for n, s in self._info.sensors.items() if s.count})
        if not self._reference:
            raise InputError(f"{recording}: no camera and no LiDAR of task {task.name} in it")
        self._camera = next(iter(task.of_modality(Modality.CAMERA)), "")
        profile = Profile.load(folder)
        graph = folder / "detector.onnx"
        engine = load_engine(graph, threads=threads, precision=detector_precision(folder))
        profile.check_trunk(graph)
        most = min(_MOST, chosen.spec.queries)
        self._detector = DetectorStage(engine, task, profile, max_detections=most)
        self._fuser = FusionStage.load(folder, task, profile, threads=threads)

    def frames(self, choice: Choice) -> Iterator[SeenFrame]:
        """The moments that `choice` picks; before them the microphone is listened to, as a device would."""
        truths = {truth.time_ns: truth for truth in self._reader.truth()}
        times = np.sort(np.array(list(truths), np.int64))
        start_ns = min(sensor.first_ns for sensor in self._info.sensors.values() if sensor.count)
        listen_s = choice.due_s - _LISTEN_S
        with tqdm(total=self._info.sensors[self._reference].count, desc="perceive", unit="sample") as bar:
            for aligned in self._moments():
                bar.update()
                at_s = (aligned.time_ns - start_ns) / 1e9
                slots = {n: SensorSlot.absent() if n in self._withheld else s for n, s in aligned.slots.items()}
                if choice.picks(at_s):
                    found = self._detected(slots)
                    scene = self._fuser.run(aligned.time_ns, slots, self._rig, found)
                    truth = truths.get(_nearest(times, aligned.time_ns))
                    yield self._seen(aligned, slots, scene, at_s, truth)
                elif at_s >= listen_s:
                    self._listen(aligned.time_ns, slots)
                if choice.done:
                    return

    def _moments(self) -> Iterator[Aligned]:
        synchronizer = Synchronizer.of_task(self._task, SynchronizerSettings(reference=self._reference))
        for cursor, reading in self._reader.readings():
            yield from (one for one in synchronizer.push(cursor, reading) if isinstance(one, Aligned))
        yield from (one for one in synchronizer.flush() if isinstance(one, Aligned))

    def _detected(self, slots: Slots) -> DetectorResult | None:
        slot = slots.get(self._camera, SensorSlot.absent())
        payload = slot.reading.payload if slot.reading else None
        return self._detector.run(payload) if isinstance(payload, Image) else None

    def _listen(self, time_ns: int, slots: Slots) -> None:
        """Of a sample that nobody wants to see, what was said in it matters later."""
        sounds = {n: s for n, s in slots.items() if self._task.sensors[n].modality is Modality.SPEECH}
        if any(slot.reading for slot in sounds.values()):
            self._fuser.run(time_ns, sounds, self._rig, None)

    def _seen(self, aligned: Aligned, slots: Slots, scene: FusedScene, at_s: float, truth: Truth | None) -> SeenFrame:
        points = self._points(slots, scene)
        objects = map(seen_object, scene.objects)
        sensors = self._task.sensors.items()
        return SeenFrame(
            time_ns=aligned.time_ns,
            at_s=at_s,
            shots=self._shots(slots),
            points=points,
            objects=[one for one in objects if one is not None and one.score >= self._floor],
            sensors=[self._sensor(name, s.modality, aligned.slots[name], scene, len(points)) for name, s in sensors],
            heard=heard(scene, self._task),
            truth=None if truth is None else truth.objects,
            said=truth.transcript if truth else "",
        )

    def _sensor(self, name: str, modality: Modality, given: SensorSlot, scene: FusedScene, points: int) -> SeenSensor:
        if name in scene.ages_ns:
            count = points if modality is Modality.LIDAR else None
            return SeenSensor(name, modality, Part.READ, scene.ages_ns[name] / 1e9, count)
        if given.reading is None:
            return SeenSensor(name, modality, Part.ABSENT)
        return SeenSensor(name, modality, Part.WITHHELD if name in self._withheld else Part.SILENT)

    def _points(self, slots: Slots, scene: FusedScene) -> Float32Array:
        """The points (n, 4) of the sweep that was read, in the ego frame."""
        for name in self._task.of_modality(Modality.LIDAR)[:1]:
            reading = slots[name].reading if name in scene.ages_ns else None
            if reading is not None and isinstance(reading.payload, PointCloud):
                points = reading.payload.points
                place = self._rig.ego_from_lidar[name]
                return np.column_stack([apply(place, points[:, :3].astype(np.float64)), points[:, 3]]).astype(
                    np.float32
                )
        return np.zeros((0, 4), np.float32)

    def _shots(self, slots: Slots) -> list[Shot]:
        """The camera's picture; black where it is calibrated but not there."""
        if self._camera not in self._rig.cameras:
            return []
        calibration = self._rig.cameras[self._camera]
        view = camera_view(calibration, _picture_size(calibration))
        look = view.image_from_ego.astype(np.float32)
        slot = slots[self._camera]
        if slot.reading is None or not isinstance(slot.reading.payload, Image):
            black = np.zeros((view.calibration.height, view.calibration.width, 3), np.uint8)
            return [Shot(self._camera, black, look, absent=True)]
        pixels = view.picture(slot.reading.payload.pixels).transpose(1, 2, 0)
        return [Shot(self._camera, pixels, look, slot.age_ns / 1e9)]


def seen_object(found: FusedObject) -> SeenObject | None:
    """What fusion makes of an item; None where it says there is nothing."""
    label = max(found.label_scores, key=lambda name: found.label_scores[name])
    if label == NOTHING or found.box3d is None:
        return None
    condition = max(found.condition_scores, key=lambda name: found.condition_scores[name], default=None)
    score = None if condition is None else found.condition_scores[condition]
    return SeenObject(label, found.label_scores[label], found.box3d, condition, score, found.asked_score)


def heard(scene: FusedScene, task: Task) -> Heard | None:
    """The intent, where an utterance is in effect."""
    if not scene.intent_scores or not any(name in scene.ages_ns for name in task.of_modality(Modality.SPEECH)):
        return None
    intent = max(scene.intent_scores, key=lambda name: scene.intent_scores[name])
    return Heard(intent, scene.intent_scores[intent])


def _reference(task: Task, there: Collection[str]) -> str:
    """The sensor whose readings make moments: the task's first camera, or LiDAR, that is there."""
    names = [*task.of_modality(Modality.CAMERA), *task.of_modality(Modality.LIDAR)]
    return next((name for name in names if name in there), "")


def _picture_size(calibration: CameraCalibration) -> InputSize:
    """Whole pictures at their own width, or the nearest that cells fill."""
    width = max(STRIDE, calibration.width // STRIDE * STRIDE)
    height = -(-round(calibration.height * width / calibration.width) // STRIDE) * STRIDE
    return InputSize(width, height)


def _nearest(times: np.ndarray, time_ns: int) -> int:
    """The one of the sorted `times` that is `time_ns` within a millisecond, else -1."""
    place = int(np.searchsorted(times, time_ns - _SAME_NS))
    near = int(times[place]) if place < len(times) else -1
    return near if near <= time_ns + _SAME_NS else -1
