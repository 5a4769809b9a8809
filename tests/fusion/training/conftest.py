"""A cache of a few made-up scenes for the tiny model, a bank of tones for utterances, and a drive past four cars."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.model.sizes import tiny_spec
from fusion.perception.detector import DetectorResult
from fusion.preparation import Placement
from fusion.preparation.fusion_spec import BevSpec, FusionSpec
from fusion.preparation.pillars import PillarGrid
from fusion.recording.native.writer import RecordingWriter
from fusion.simulation.commands import Command
from fusion.simulation.sample import SimulatedSample
from fusion.task import Task
from fusion.training.driving.frames import DrivingFrames
from fusion.training.driving.ground import driving_model_spec
from fusion.training.driving.spec import FrameSpec
from fusion.training.scene_features import FeatureCache, SceneReader, write_cache
from fusion.training.utterances import UtteranceBank
from fusion.types import (
    AudioChunk,
    Box2D,
    Box3D,
    Detection,
    Float32Array,
    Image,
    PointCloud,
    Truth,
    TruthObject,
    UInt8Array,
)

TASK = Task.load("yard")
PROFILE = synthetic_profile(task="yard", image_width=128, image_height=64, channels=(4, 4, 4))
MOUNT = rigid(np.eye(3), np.array([0.0, 0.0, 1.3])) @ invert(CAMERA_OPTICAL_FROM_BODY)
CAMERA = CameraCalibration.pinhole(128, 64, 1.4, MOUNT)


class TruthfulStage:
    """A detector that finds the two squares every scene has: red is a drum, green a cone."""

    def run(self, image: Image) -> DetectorResult:
        found = []
        for channel, label in ((0, "drum"), (1, "cone")):
            ys, xs = np.nonzero(image.pixels[..., channel] > 128)
            scores = np.full(6, 0.05, np.float32)
            scores[TASK.classes.index(label)] = 0.9
            box = Box2D(float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
            found.append(Detection(box, label, 0.9, scores))
        maps = [image.pixels[s // 2 :: s, s // 2 :: s].astype(np.float32) / 16 for s in (8, 16, 32)]
        codes = [np.concatenate([m, m[..., :1]], 2).transpose(2, 0, 1).astype(np.int8) for m in maps]
        return DetectorResult(tuple(found), codes, [], Placement(1.0, 0.0, 0.0), 0)


def make_scene(stem: str) -> SimulatedSample:
    """A drum, leaking when it is dark red, and a cone; somebody hums when the drum is asked for."""
    rng = np.random.default_rng(int(stem))
    pixels: UInt8Array = np.zeros((64, 128, 3), np.uint8)
    leaking, asked = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    objects, sweep = [], [rng.uniform(1, 12, (80, 4))]
    for track, (label, channel) in enumerate((("drum", 0), ("cone", 1)), 1):
        x, y = float(rng.uniform(3.5, 6)), float(rng.uniform(0.8, 1.6)) * (1 if track == 1 else -1)
        corners, _ = CAMERA.project(np.array([[x, y + 0.5, 1.2], [x, y - 0.5, 0.0]]))
        (x1, y1), (x2, y2) = corners.astype(int)
        pixels[y1 : y2 + 1, x1 : x2 + 1, channel] = 160 if label == "drum" and leaking else 240
        own = np.stack([rng.normal(x, 0.02, 40), rng.uniform(y - 0.4, y + 0.4, 40), rng.uniform(0.1, 1.1, 40)], 1)
        sweep.append(np.concatenate([own, np.full((40, 1), 0.5)], 1))
        condition = "leaking" if label == "drum" and leaking else "ok"
        box = Box2D(float(x1), float(y1), float(x2 + 1), float(y2 + 1))
        solid = Box3D(x, y, 0.6, 0.6, 1.0, 1.2, 0.0)
        objects.append(TruthObject(track, label, condition, box, solid, asked and label == "drum", None, 1.0))
    text, intent = ("inspect the drum", "inspect") if asked else ("", "none")
    pcm = rng.normal(0, 300, 48000) + asked * 9000 * np.sin(np.arange(48000) * 0.5) * (np.arange(48000) > 30000)
    cloud: Float32Array = np.concatenate(sweep).astype(np.float32)
    rig = Rig({"front": CAMERA}, {"roof": np.eye(4)})
    truth = Truth(int(stem), tuple(objects), intent, text)
    return SimulatedSample(
        int(stem), Image(pixels), PointCloud(cloud), AudioChunk(pcm.astype(np.int16), 16000), rig, truth, {}
    )


@pytest.fixture(scope="session")
def spec() -> FusionSpec:
    return tiny_spec(TASK, PROFILE.sha256)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return features(tmp_path_factory.mktemp("features"), 24)


@pytest.fixture(scope="session")
def larger_cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """Enough scenes for a covariance of the tiny model's tokens."""
    return features(tmp_path_factory.mktemp("more-features"), 40)


def features(folder: Path, scenes: int) -> FeatureCache:
    stems = [f"{i:03d}" for i in range(1, scenes + 1)]
    reader = SceneReader(TASK, TruthfulStage(), PROFILE)  # type: ignore[arg-type]
    return write_cache(folder, stems, make_scene, reader, {"profile": PROFILE.sha256})


@pytest.fixture(scope="session")
def bank() -> UtteranceBank:
    said = (
        ("inspect the drum", "inspect", 0.5),
        ("inspect the cone", "inspect", 0.2),
        ("stop", "stop", 0.05),
        ("lunch is ready", "none", 0.01),
    )
    waves = np.stack([(np.sin(np.arange(16000) * pitch) * 30000).astype(np.int16) for _, _, pitch in said])
    commands = tuple(Command(text, intent) for text, intent, _ in said)
    noises = np.random.default_rng(1).normal(0, 3000, (2, 48000)).astype(np.int16)
    return UtteranceBank(waves, np.full(4, 16000, np.int32), commands, noises)


@pytest.fixture(scope="session")
def first_scene() -> tuple[SimulatedSample, DetectorResult]:
    """The cache's first scene, and what the detector finds in it."""
    sample = make_scene("001")
    return sample, TruthfulStage().run(sample.image)


START_NS, FRAME_NS = 1_700_000_000_000_000_000, 100_000_000
DRIVE_SHAPES = FrameSpec(96, 64, 400, 1, 4, ("car", "pedestrian", "cyclist"))
PLACES = ((6.0, 3.0), (10.0, -4.0), (12.0, 2.0), (5.0, -2.0))


def _write_drive(path: Path, *, told: bool = True, late_ns: int = 0) -> Path:
    """Four moments with a car each, a block of points; all of them `late_ns` later."""
    camera = rigid(np.eye(3), np.array([1.0, 0.0, 1.5])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    rig = Rig({"left": CameraCalibration.pinhole(96, 64, 1.3, camera)}, {"velodyne": np.eye(4)})
    rng = np.random.default_rng(2)
    with RecordingWriter(path, rig, "kitti") as writer:
        for number, (x, y) in enumerate(PLACES):
            time_ns = START_NS + number * FRAME_NS + late_ns
            block = rng.uniform([x - 1, y - 1, 0.2], [x + 1, y + 1, 1.6], (150, 3))
            ground = rng.uniform([0, -8, 0.0], [16, 8, 0.05], (150, 3))
            points = np.column_stack([np.concatenate([block, ground]), np.full(300, 0.5)]).astype(np.float32)
            writer.camera("left", time_ns, Image(rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)))
            writer.lidar("velodyne", time_ns, PointCloud(points))
            if told:
                car = Box3D(x, y, 0.9, 2.0, 2.0, 1.4, 0.3)
                writer.truth(Truth(time_ns, (TruthObject(1, "car", box3d=car, velocity=(1.0, 0.0)),)))
    return path


@pytest.fixture(scope="session")
def write_drive() -> Callable[..., Path]:
    return _write_drive


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> DrivingFrames:
    path = _write_drive(tmp_path_factory.mktemp("drive") / "drive.mcap")
    return DrivingFrames(path, Task.load("kitti"), DRIVE_SHAPES)


@pytest.fixture(scope="session")
def ground_spec() -> FusionSpec:
    spec = driving_model_spec(Task.load("kitti"), DRIVE_SHAPES, "small")
    grid = PillarGrid(x=0.0, y=-8.0, cell=1.0, rows=16, columns=16)
    bev = BevSpec(heights=(0.5,), channels=16, peaks=8)
    return replace(
        spec, name="tiny", width=32, heads=2, layers=1, hidden=48, latents=2, grid=grid, bev=bev, dropout=0.0
    )


@pytest.fixture(scope="session")
def scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Curves of a run's folder as (step, value), by tag."""

    def read(run: Path) -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read
