"""The fusion model on the device: encoders run when their sensor delivers, the fuser at every sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.codec import Profile
from fusion.engines import Engine, load_engine
from fusion.errors import ConfigError, InputError, ModelError
from fusion.geometry import CameraCalibration, Rig
from fusion.json_text import parse_json
from fusion.perception.detector import DetectorResult
from fusion.perception.hearing import Hearing
from fusion.preparation import Placement, points_input, speech_present, speech_window
from fusion.preparation.fusion_spec import ENGINE_PRECISION, PRECISION_NAME, SPEC_NAME, FusionSpec
from fusion.preparation.items import ItemArrays, item_arrays
from fusion.preparation.pillars import pillar_input
from fusion.preparation.rays import cell_rays, input_calibration
from fusion.task import Task
from fusion.types import (
    AudioChunk,
    Box3D,
    Detection,
    Float32Array,
    FusedObject,
    FusedScene,
    Image,
    Modality,
    PointCloud,
    Reading,
    SensorSlot,
)

GRAPHS = ("camera", "lidar", "speech", "fuser")
KEPT_NS = 500_000_000
"""How old camera or LiDAR tokens may get before their sensor counts as absent."""
NOTHING = "nothing"
_FOUND = 0.5
_PRECISION = "f32"
"""bfloat16 would round LiDAR points 10 m away to 4 cm."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """One sensor's last features and positions, and the capture time of what they were made from."""

    features: Float32Array
    positions: Float32Array
    time_ns: int


class FusionStage:
    """Fuses one device's samples. Keeps each sensor's last tokens, so it belongs to one stream; not thread-safe."""

    def __init__(self, engines: Mapping[str, Engine], spec: FusionSpec, task: Task) -> None:
        self.spec, self.task = spec, task
        self._engines = engines
        self._names = {m.value: (task.of_modality(m) or ("",))[0] for m in Modality}
        self.forget()

    def forget(self) -> None:
        """Begin another stream: nothing of the last one is kept."""
        self._kept: dict[str, _Tokens] = {}
        self._hearing = Hearing()
        self._swept: tuple[Reading, Float32Array] | None = None
        self._rays: tuple[CameraCalibration, Placement, Float32Array, CameraCalibration] | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        task: Task,
        profile: Profile,
        *,
        backend: str = "auto",
        threads: int = 2,
        cache: Path | None = None,
    ) -> Self:
        """The fusion model of the bundle `folder`. Raises `ModelError` when it is missing or made for another trunk."""
        spec = FusionSpec.load(folder)
        if spec.task != task.name or spec.classes != task.classes or spec.conditions != task.conditions:
            raise ModelError(f"{folder / SPEC_NAME}: a model of task {spec.task!r}, not this task {task.name!r}")
        if spec.profile != profile.sha256:
            raise ModelError(
                f"{folder / SPEC_NAME}: made for trunk {spec.profile[:12]}, not {profile.sha256[:12]}; train it again"
            )
        precisions = _precisions(folder)
        engines = {
            name: load_engine(
                folder / f"{name}.onnx", backend=backend, threads=threads, precision=precisions[name], cache=cache
            )
            for name in GRAPHS
        }
        return cls(engines, spec, task)

    def run(
        self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None, detector: DetectorResult | None
    ) -> FusedScene:
        """Fuse the sample taken at `time_ns`.

        `detector` is what was detected in the sample's picture, None when there is none; then `objects` are what is
        found without one, else `objects[i]` belongs to detection i. `ages_ns` names the sensors that were read.
        Raises `InputError` when a sensor that is there has no calibration, or a picture not the size of its camera's.
        """
        camera = None if detector is None else self._read_camera(time_ns, slots, rig, detector)
        sweep = self._read_lidar(time_ns, slots, rig)
        self._read_speech(time_ns, slots)
        items = self._items(detector, camera, sweep)
        ports, ages = self._ports(time_ns)
        answer = self._engines["fuser"].run({**ports, **self._item_ports(items)})
        count = None if detector is None else len(detector.detections)
        return self._scene(answer, count, ages)

    def _read_camera(
        self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None, detector: DetectorResult
    ) -> CameraCalibration:
        name = self._names["camera"]
        if rig is None or name not in rig.cameras:
            raise InputError(f"camera {name!r} has no calibration; fusion needs one")
        slot = slots.get(name)
        reading = None if slot is None else slot.reading
        if reading is not None and isinstance(reading.payload, Image):
            rig.cameras[name].check_picture(name, reading.payload.pixels)
        rays, calibration = self._calibrated(rig.cameras[name], detector.placement)
        maps = {v.shape[1]: v for v in detector.maps}
        rows = self.spec.camera_map[0]
        out = self._engines["camera"].run({"p4": maps[rows][None], "p5": maps[rows // 2][None], "rays": rays})
        taken = time_ns - (slot.age_ns if slot is not None and reading is not None else 0)
        self._kept["camera"] = _Tokens(out["features"], out["positions"], taken)
        return calibration

    def _calibrated(
        self, calibration: CameraCalibration, placement: Placement
    ) -> tuple[Float32Array, CameraCalibration]:
        """Rays and calibration of the model's input image; made again only when the calibration changes."""
        kept = self._rays
        if kept is None or kept[0] is not calibration or kept[1] != placement:
            mine = input_calibration(calibration, placement, self.spec.image_width, self.spec.image_height)
            kept = self._rays = (calibration, placement, cell_rays(mine), mine)
        return kept[2], kept[3]

    def _read_lidar(self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None) -> Float32Array | None:
        """The points (n, 4) of the sweep that is in effect, in the ego frame."""
        name = self._names["lidar"]
        slot = slots.get(name)
        reading = None if slot is None else slot.reading
        if slot is not None and reading is not None and (self._swept is None or self._swept[0] is not reading):
            if rig is None or name not in rig.ego_from_lidar:
                raise InputError(f"LiDAR {name!r} has no calibration; fusion needs one")
            self._encode_sweep(time_ns - slot.age_ns, reading, rig.ego_from_lidar[name])
        return self._swept[1] if self._swept is not None and self._fresh("lidar", time_ns) else None

    def _encode_sweep(self, taken_ns: int, reading: Reading, ego_from_lidar: NDArray[Any]) -> None:
        if not isinstance(reading.payload, PointCloud):
            raise InputError(f"LiDAR {reading.sensor!r} delivered {type(reading.payload).__name__}, not a point cloud")
        points, valid = points_input(reading.payload, ego_from_lidar)
        sweep = np.ascontiguousarray(points[0][valid[0]])
        table, on_grid = pillar_input(sweep, self.spec.grid, self.spec.points)
        out = self._engines["lidar"].run({"points": table, "points_valid": on_grid})
        self._kept["lidar"] = _Tokens(out["features"], out["positions"], taken_ns)
        self._swept = (reading, sweep)

    def _read_speech(self, time_ns: int, slots: Mapping[str, SensorSlot]) -> None:
        slot = slots.get(self._names["speech"])
        if slot is not None and slot.reading is not None and isinstance(slot.reading.payload, AudioChunk):
            pcm = slot.reading.payload.pcm
            if self._hearing.due(time_ns) and speech_present(pcm, slot.reading.payload.sample_rate_hz):
                outputs = self._engines["speech"].run({"pcm": speech_window(pcm, self.spec.samples)})
                self._hearing.listen(outputs, time_ns)
        utterance = self._hearing.current(time_ns)
        if utterance is None:
            self._kept.pop("speech", None)
        else:
            outputs = dict(utterance.outputs)
            self._kept["speech"] = _Tokens(outputs["features"], outputs["positions"], utterance.time_ns)

    def _items(
        self, detector: DetectorResult | None, camera: CameraCalibration | None, sweep: Float32Array | None
    ) -> ItemArrays:
        classes, rows = len(self.spec.classes), self.spec.queries
        if detector is None or camera is None or not detector.detections:
            return ItemArrays.empty(classes, rows, conditions=len(self.spec.conditions))
        found = detector.detections
        if len(found) > rows:
            raise ConfigError(
                f"{len(found)} detections; fusion takes {rows}: set the detector's max_detections to that"
            )
        scores = np.stack([d.class_scores for d in found])
        told = told_conditions(found, len(self.spec.conditions))
        return item_arrays([d.box for d in found], scores, camera, sweep, condition_scores=told, rows=rows)

    def _fresh(self, modality: str, time_ns: int) -> bool:
        kept = self._kept.get(modality)
        return kept is not None and (modality == "speech" or 0 <= time_ns - kept.time_ns <= KEPT_NS)

    def _item_ports(self, items: ItemArrays) -> Arrays:
        """The items' arrays; a model made before the newest arrays or point channels gets the ones it knows."""
        inputs = self._engines["fuser"].inputs
        ports: Arrays = dict(items.batched())
        if not self.spec.told_conditions:
            ports.pop("condition_scores")
        known = inputs.get("item_points")
        if known is not None:
            ports["item_points"] = np.ascontiguousarray(ports["item_points"][..., : int(known[-1])])
        return ports

    def _ports(self, time_ns: int) -> tuple[Arrays, dict[str, int]]:
        ports: Arrays = {}
        ages: dict[str, int] = {}
        shapes = self._engines["fuser"].inputs
        for modality, name in self._names.items():
            there = self._fresh(modality, time_ns)
            age_ns = time_ns - self._kept[modality].time_ns if there else 0
            for part in ("features", "positions"):
                port = f"{modality}_{part}"
                shape = tuple(int(n) for n in shapes[port])
                ports[port] = getattr(self._kept[modality], part) if there else np.zeros(shape, np.float32)
            count = int(shapes[f"{modality}_valid"][1])
            ports[f"{modality}_valid"] = np.full((1, count), there)
            ports[f"{modality}_age"] = np.full((1, count), age_ns / 1e9, np.float32)
            if there:
                ages[name] = age_ns
        return ports, ages

    def _scene(self, answer: Mapping[str, NDArray[Any]], count: int | None, ages: dict[str, int]) -> FusedScene:
        labels = _softmax(answer["label_logits"][0])
        conditions = _softmax(answer["condition_logits"][0])
        asked = 1 / (1 + np.exp(-answer["asked_logits"][0]))
        rows = range(count) if count is not None else np.flatnonzero(labels[:, -1] < _FOUND)
        names = (*self.spec.classes, NOTHING)
        objects = tuple(
            FusedObject(
                token=np.array(answer["item_tokens"][0, row], np.float32),
                label_scores=_named(names, labels[row]),
                condition_scores=_named(self.spec.conditions, conditions[row]),
                asked_score=float(asked[row]),
                box3d=_box3d(answer["box3d"][0, row]),
            )
            for row in rows
        )
        intents = _named(self.spec.intents, _softmax(answer["intent_logits"])[0])
        return FusedScene(objects, np.array(answer["latents"][0], np.float32), intents, ages)


def _precisions(folder: Path) -> dict[str, str]:
    """What engines compute in, by graph: float32, or what a variant that was made for less says."""
    path, usual = folder / PRECISION_NAME, dict.fromkeys(GRAPHS, _PRECISION)
    if not path.is_file():
        return usual
    try:
        return usual | {
            str(k): str(v) for k, v in parse_json(path.read_text(encoding="utf-8"))[ENGINE_PRECISION].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r}); export the variant again") from None


def told_conditions(detections: Sequence[Detection], count: int) -> Float32Array:
    """The detector's condition scores (n, count); zeros when it does not tell the conditions there are."""
    table = np.zeros((len(detections), count), np.float32)
    for row, detection in zip(table, detections, strict=True):
        if len(detection.condition_scores) == count:
            row[:] = detection.condition_scores
    return table


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def _named(names: tuple[str, ...], values: NDArray[Any]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _box3d(vector: NDArray[Any]) -> Box3D:
    x, y, z, *logs, sine, cosine = (float(v) for v in vector)
    length, width, height = (float(np.exp(np.clip(v, -4.0, 4.0))) for v in logs)
    return Box3D(x, y, z, length, width, height, float(np.arctan2(sine, cosine)))
