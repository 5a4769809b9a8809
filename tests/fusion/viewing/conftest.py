"""A made-up drive with six cameras, and a tiny model with random weights that looks at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid, rotation_z
from fusion.model.build import build_fusion
from fusion.model.checkpoint import save_fusion
from fusion.preparation.fusion_spec import BevSpec
from fusion.preparation.pillars import PillarGrid
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.training.driving.ground import driving_model_spec
from fusion.training.driving.spec import frame_spec
from fusion.types import Box3D, Image, PointCloud, Truth, TruthObject

START_NS, STEP_NS = 1_700_000_000_000_000_000, 2_000_000_000
MOMENTS = 4
NO_CAMERA, EMPTY_SWEEP = 1, 2
"""Moments at which cam-back is missing, and at which the sweep has no point."""
YAWS = (0.0, -0.9, -1.9, 3.1, 1.9, 0.9)


def drive_rig(task: Task) -> Rig:
    mounts = (rigid(rotation_z(yaw), np.array([0.5, 0.0, 1.5])) @ invert(CAMERA_OPTICAL_FROM_BODY) for yaw in YAWS)
    cameras = {
        name: CameraCalibration.pinhole(96, 64, 1.2, at)
        for name, at in zip(list(task.sensors)[:6], mounts, strict=True)
    }
    return Rig(cameras, {"lidar-top": rigid(np.eye(3), np.array([0.9, 0.0, 1.8]))})


def write_drive(path: Path, rig: Rig) -> Path:
    """Moments two seconds apart, so that none has sweeps of another; pictures 20 ms before each sweep."""
    rng = np.random.default_rng(5)
    names = list(Task.load("nuscenes").sensors)[:6]
    with RecordingWriter(path, rig, "nuscenes") as writer:
        for number in range(MOMENTS):
            time_ns = START_NS + number * STEP_NS
            for name in names:
                pixels = rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)
                if not (number == NO_CAMERA and name == "cam-back"):
                    writer.camera(name, time_ns - 20_000_000, Image(pixels))
            count = 0 if number == EMPTY_SWEEP else 300
            points = np.column_stack([rng.uniform(-12, 12, (count, 3)), np.full(count, 0.5)])
            writer.lidar("lidar-top", time_ns, PointCloud(points.astype(np.float32)))
            if number == 0:
                car = TruthObject(1, "car", box3d=Box3D(6, 2, 0.9, 4, 2, 1.5, 0.2), velocity=(1.0, 0.0))
                writer.truth(Truth(time_ns, (car, TruthObject(2, "animal", box3d=car.box3d))))
    return path


def save_tiny(folder: Path, name: str = "nuscenes") -> Path:
    """A model of a driving task with random weights; 96x64 pictures, 16 m of ground."""
    torch.manual_seed(11)
    task = Task.load(name)
    shapes = replace(frame_spec(task), width=96, height=64, points=400)
    spec = driving_model_spec(task, shapes, "small")
    grid = PillarGrid(x=-16.0, y=-16.0, cell=2.0, rows=16, columns=16)
    bev = BevSpec(heights=(0.5,), channels=16, peaks=8)
    spec = replace(spec, name="tiny", width=32, heads=2, layers=1, hidden=48, latents=2, grid=grid, bev=bev)
    save_fusion(folder, build_fusion(spec))
    return folder


@pytest.fixture(scope="session")
def nuscenes() -> Task:
    return Task.load("nuscenes")


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory, nuscenes: Task) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "drive.mcap", drive_rig(nuscenes))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")
