"""A driving task's model learns from a recording, goes on after a stop, and says where nothing can be learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.cli import main
from fusion.errors import InputError, ModelError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.model.checkpoint import load_fusion
from fusion.preparation.fusion_spec import BevSpec, FusionSpec
from fusion.preparation.pillars import PillarGrid
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.training.driving_augment import training_recipe
from fusion.training.driving_frames import DrivingFrames
from fusion.training.driving_spec import FrameSpec
from fusion.training.ground import GroundRecipe, driving_model_spec, recall_at, train_ground
from fusion.types import Box3D, Image, PointCloud, Truth, TruthObject

START_NS, FRAME_NS = 1_700_000_000_000_000_000, 100_000_000
SHAPES = FrameSpec(96, 64, 400, 1, 4, ("car", "pedestrian", "cyclist"))
PLACES = ((6.0, 3.0), (10.0, -4.0), (12.0, 2.0), (5.0, -2.0))


def _write(path: Path, *, told: bool = True) -> Path:
    """Four moments with a car each, a block of points."""
    camera = rigid(np.eye(3), np.array([1.0, 0.0, 1.5])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    rig = Rig({"left": CameraCalibration.pinhole(96, 64, 1.3, camera)}, {"velodyne": np.eye(4)})
    rng = np.random.default_rng(2)
    with RecordingWriter(path, rig, "kitti") as writer:
        for number, (x, y) in enumerate(PLACES):
            time_ns = START_NS + number * FRAME_NS
            block = rng.uniform([x - 1, y - 1, 0.2], [x + 1, y + 1, 1.6], (150, 3))
            ground = rng.uniform([0, -8, 0.0], [16, 8, 0.05], (150, 3))
            points = np.column_stack([np.concatenate([block, ground]), np.full(300, 0.5)]).astype(np.float32)
            writer.camera("left", time_ns, Image(rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)))
            writer.lidar("velodyne", time_ns, PointCloud(points))
            if told:
                car = Box3D(x, y, 0.9, 2.0, 2.0, 1.4, 0.3)
                writer.truth(Truth(time_ns, (TruthObject(1, "car", box3d=car, velocity=(1.0, 0.0)),)))
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> DrivingFrames:
    return DrivingFrames(_write(tmp_path_factory.mktemp("drive") / "drive.mcap"), Task.load("kitti"), SHAPES)


@pytest.fixture(scope="module")
def spec() -> FusionSpec:
    spec = driving_model_spec(Task.load("kitti"), SHAPES, "small")
    grid = PillarGrid(x=0.0, y=-8.0, cell=1.0, rows=16, columns=16)
    bev = BevSpec(heights=(0.5,), channels=16, peaks=8)
    return replace(
        spec, name="tiny", width=32, heads=2, layers=1, hidden=48, latents=2, grid=grid, bev=bev, dropout=0.0
    )


def _recipe(epochs: int) -> GroundRecipe:
    return GroundRecipe(epochs=epochs, batch=4, learning_rate=4e-3, warmup_steps=2, threads=1)


def test_a_few_frames_are_learnt_by_heart(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    model, history = train_ground(frames, tmp_path, _recipe(50), spec=spec)
    assert history[-1]["heatmap"] < 0.2 * history[0]["heatmap"]
    assert recall_at(model, frames) == 1.0
    assert recall_at(load_fusion(tmp_path / "model"), frames) == 1.0


def test_a_stopped_run_goes_on_as_if_never_stopped(
    frames: DrivingFrames, spec: FusionSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(_recipe(4), augment=training_recipe(), batch=2)
    whole, history = train_ground(frames, tmp_path / "whole", recipe, spec=spec)
    from fusion.training import ground

    real = ground._epoch

    def stop_in_third(*given: object) -> dict[str, float]:
        if given[-1] == 2:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(ground, "_epoch", stop_in_third)
    with pytest.raises(KeyboardInterrupt):
        train_ground(frames, tmp_path / "stopped", recipe, spec=spec)
    monkeypatch.setattr(ground, "_epoch", real)
    again, resumed = train_ground(frames, tmp_path / "stopped", recipe, spec=spec, resume=True)
    assert resumed == history
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_backbone_begins_with_given_weights(frames: DrivingFrames, spec: FusionSpec, tmp_path: Path) -> None:
    bad = tmp_path / "weights.safetensors"
    bad.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        train_ground(frames, tmp_path, _recipe(1), spec=spec, network_weights=bad)


def test_frames_without_truth_teach_nothing(spec: FusionSpec, tmp_path: Path) -> None:
    silent = DrivingFrames(_write(tmp_path / "silent.mcap", told=False), Task.load("kitti"), SHAPES)
    with pytest.raises(InputError, match=r"silent\.mcap: no frame has truth"):
        train_ground(silent, tmp_path, _recipe(1), spec=spec)


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = _write(tmp_path / "drive.mcap")
    command = ["train", "fusion", "--task", "kitti", "--data", str(recording), "--out", str(tmp_path), "--size", "huge"]
    assert main(command) != 0
    assert "small, base, large" in capsys.readouterr().err
    assert main(["train", "fusion", "--task", "kitti"]) != 0
    assert "--data" in capsys.readouterr().err
