"""The fusion stage: what is run when, what is kept how long, what is said about it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, InputError, ModelError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.model.sizes import items_spec
from fusion.perception.detector import DetectorResult
from fusion.perception.fused import KEPT_NS, FusionStage
from fusion.preparation import Placement
from fusion.task import Task
from fusion.types import (
    AudioChunk,
    Availability,
    Box2D,
    Detection,
    Image,
    Modality,
    PointCloud,
    Reading,
    SensorSlot,
)

TASK = Task.load("yard")
PROFILE = synthetic_profile(task="yard")
SECOND = 1_000_000_000
NOW = 100 * SECOND
SPEC = items_spec(
    TASK, profile=PROFILE.sha256, image_size=(640, 384), steps=([0.25] * 32, [0.25] * 32), gains=(1, 1), words=["stop"]
)


class FakeEngine:
    """Answers with arrays made by `answer`, and keeps what it was given."""

    name = "fake"

    def __init__(self, answer: Mapping[str, np.ndarray], inputs: Mapping[str, tuple[int | str, ...]]) -> None:
        self.answer, self.inputs = answer, inputs
        self.given: list[dict[str, Any]] = []

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.given.append(dict(inputs))
        return dict(self.answer)


def _tokens(count: int, value: float) -> dict[str, np.ndarray]:
    return {name: np.full((1, count, 96), value, np.float32) for name in ("features", "positions")}


def _engines(label: int = 1) -> dict[str, FakeEngine]:
    counts = {"camera": 960, "lidar": 750, "speech": 76}
    shapes = {f"{m}_{part}": (1, n, 96) for m, n in counts.items() for part in ("features", "positions")}
    shapes |= {f"{m}_valid": (1, n) for m, n in counts.items()}
    answer = {
        "item_tokens": np.arange(32 * 96, dtype=np.float32).reshape(1, 32, 96),
        "latents": np.ones((1, 8, 96), np.float32),
        "label_logits": np.eye(7, dtype=np.float32)[[label] * 32][None] * 9,
        "condition_logits": np.zeros((1, 32, 6), np.float32),
        "asked_logits": np.zeros((1, 32), np.float32),
        "box3d": np.tile(np.array([5, 1, 0.5, 0, 0, np.log(2), 1, 0], np.float32), (1, 32, 1)),
        "intent_logits": np.zeros((1, 4), np.float32),
        "alarm_logits": np.zeros(1, np.float32),
        "sensor_present": np.ones((1, 3), np.bool_),
        "sensor_age": np.zeros((1, 3), np.float32),
    }
    heard = _tokens(76, 3.0) | {"words": np.array([[0.9]], np.float32)}
    return {
        "camera": FakeEngine(_tokens(960, 1.0), {}),
        "lidar": FakeEngine(_tokens(750, 2.0), {}),
        "speech": FakeEngine(heard, {}),
        "fuser": FakeEngine(answer, shapes),
    }


def _rig() -> Rig:
    mount = rigid(np.eye(3), np.array([0.0, 0.0, 1.3])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    return Rig({"front": CameraCalibration.pinhole(640, 384, 1.4, mount)}, {"roof": np.eye(4)})


def _slot(name: str, modality: Modality, payload: Image | PointCloud | AudioChunk, age_ns: int = 0) -> SensorSlot:
    return SensorSlot(Availability.PRESENT, age_ns, Reading(name, modality, NOW - age_ns, payload))


def _slots(age_ns: int = 0) -> dict[str, SensorSlot]:
    points = np.random.default_rng(1).uniform(1, 9, (500, 4)).astype(np.float32)
    speech = np.zeros(48000, np.float64)
    speech[20000:40000] = np.sin(np.arange(20000) * 0.4) * 9000
    return {
        "front": _slot("front", Modality.CAMERA, Image(np.zeros((384, 640, 3), np.uint8)), age_ns),
        "roof": _slot("roof", Modality.LIDAR, PointCloud(points), age_ns),
        "mic": _slot("mic", Modality.SPEECH, AudioChunk(speech.astype(np.int16), 16000)),
    }


def _detected(count: int) -> DetectorResult:
    scores = np.full(6, 0.1, np.float32)
    found = tuple(Detection(Box2D(100, 200, 140, 260), "drum", 0.9, scores) for _ in range(count))
    maps = [np.zeros((k, 384 // s, 640 // s), np.int8) for k, s in ((24, 8), (32, 16), (32, 32))]
    return DetectorResult(found, maps, [], Placement(1.0, 0.0, 0.0), 0)


def test_everything_there() -> None:
    engines = _engines()
    scene = FusionStage(engines, SPEC, TASK).run(NOW, _slots(20_000_000), _rig(), _detected(2))
    assert len(scene.objects) == 2
    first, second = scene.objects
    assert list(first.label_scores) == [*TASK.classes, "nothing"]
    assert max(first.label_scores, key=lambda name: first.label_scores[name]) == "pallet"
    assert sum(first.condition_scores.values()) == pytest.approx(1.0)
    assert first.asked_score == pytest.approx(0.5)
    np.testing.assert_array_equal(second.token, np.arange(96, 192, dtype=np.float32))
    assert first.box3d is not None
    assert (first.box3d.x, first.box3d.length, first.box3d.yaw) == (5.0, 1.0, pytest.approx(np.pi / 2))
    assert first.box3d.height == pytest.approx(2.0)
    assert scene.latents.shape == (8, 96)
    assert scene.ages_ns == {"front": 20_000_000, "roof": 20_000_000, "mic": 0}
    given = engines["fuser"].given[0]
    assert [bool(given[f"{m}_valid"].all()) for m in ("camera", "lidar", "speech")] == [True, True, True]
    assert given["camera_age"] == pytest.approx(0.02)
    assert given["box_valid"].sum() == 2
    assert given["lidar_features"][0, 0, 0] == 2.0


def test_an_absent_sensor_is_absent_and_its_kept_tokens_expire() -> None:
    engines = _engines()
    stage = FusionStage(engines, SPEC, TASK)
    stage.run(NOW, _slots(), _rig(), _detected(1))
    gone = {"front": SensorSlot.absent(), "roof": SensorSlot.absent(), "mic": SensorSlot.absent()}
    soon = stage.run(NOW + KEPT_NS, gone, _rig(), None)
    assert soon.ages_ns == {"front": KEPT_NS, "roof": KEPT_NS, "mic": KEPT_NS}
    late = stage.run(NOW + KEPT_NS + 1, gone, _rig(), None)
    assert set(late.ages_ns) == {"mic"}
    assert not engines["fuser"].given[-1]["lidar_valid"].any()
    assert not engines["fuser"].given[-1]["lidar_features"].any()
    assert stage.run(NOW + 5 * SECOND, gone, _rig(), None).ages_ns == {}


def test_encoders_run_only_when_their_sensor_delivers() -> None:
    engines = _engines()
    stage, slots = FusionStage(engines, SPEC, TASK), _slots()
    for step in range(4):
        stage.run(NOW + step * SECOND // 10, slots, _rig(), _detected(1))
    assert [len(engines[name].given) for name in ("camera", "lidar", "speech", "fuser")] == [4, 1, 2, 4]


def test_silence_wakes_no_encoder() -> None:
    engines = _engines()
    slots = _slots() | {"mic": _slot("mic", Modality.SPEECH, AudioChunk(np.zeros(48000, np.int16), 16000))}
    scene = FusionStage(engines, SPEC, TASK).run(NOW, slots, _rig(), _detected(1))
    assert not engines["speech"].given
    assert "mic" not in scene.ages_ns


def test_without_a_camera_objects_are_what_lidar_finds() -> None:
    assert len(FusionStage(_engines(label=1), SPEC, TASK).run(NOW, _slots(), _rig(), None).objects) == 32
    assert FusionStage(_engines(label=6), SPEC, TASK).run(NOW, _slots(), _rig(), None).objects == ()


def test_no_detection_no_object() -> None:
    assert FusionStage(_engines(), SPEC, TASK).run(NOW, _slots(), _rig(), _detected(0)).objects == ()


def test_what_cannot_be_fused_is_said() -> None:
    stage = FusionStage(_engines(), SPEC, TASK)
    with pytest.raises(InputError, match="camera 'front' has no calibration"):
        stage.run(NOW, _slots(), None, _detected(1))
    with pytest.raises(InputError, match="LiDAR 'roof' has no calibration"):
        stage.run(NOW, _slots(), Rig(_rig().cameras), _detected(1))
    with pytest.raises(ConfigError, match="max_detections"):
        stage.run(NOW, _slots(), _rig(), _detected(33))
    halved = _slots() | {"front": _slot("front", Modality.CAMERA, Image(np.zeros((192, 320, 3), np.uint8)))}
    with pytest.raises(InputError, match=r"camera 'front' delivered a picture of 320x192 .* is for 640x384"):
        stage.run(NOW, halved, _rig(), _detected(1))


def test_a_model_of_another_trunk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fusion\.json"):
        FusionStage.load(tmp_path, TASK, PROFILE)
    SPEC.save(tmp_path)
    other = synthetic_profile(task="yard", clip=15)
    with pytest.raises(ModelError, match="made for trunk"):
        FusionStage.load(tmp_path, TASK, other)
    with pytest.raises(ModelError, match="not this task 'pcb'"):
        FusionStage.load(tmp_path, Task.load("pcb"), PROFILE)
    with pytest.raises(ModelError, match=r"camera\.onnx"):
        FusionStage.load(tmp_path, TASK, PROFILE)
