"""A small made-up recording with every sensor: for tests, examples and measurements. Same arguments, same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid, rotation_y
from fusion.recording.native.writer import RecordingWriter
from fusion.types import AudioChunk, Box2D, Box3D, Image, PointCloud, Truth, TruthObject

START_NS = 1_700_000_000_123_456_789
STEP_NS = 100_000_000
SAMPLE_RATE_HZ = 16_000
_BOX_PX = 60


def synthetic_rig(width: int = 640, height: int = 384) -> Rig:
    """Camera `front` looking slightly down and LiDAR `roof`, as the yard's cart has them."""
    mount = rigid(rotation_y(0.1), np.array([0.25, 0.0, 1.3]))
    camera = CameraCalibration.pinhole(width, height, np.deg2rad(80.0), mount @ invert(CAMERA_OPTICAL_FROM_BODY))
    return Rig({"front": camera}, {"roof": rigid(np.eye(3), np.array([0.1, 0.0, 1.6]))})


def write_synthetic(
    path: Path,
    *,
    frames: int = 10,
    seed: int = 0,
    width: int = 640,
    height: int = 384,
    points: int = 16_000,
    jpeg_quality: int = 85,
    point_grid_m: float = 0.0,
) -> None:
    """Write `frames` moments at 10 Hz of sensors `front`, `roof` and `mic`, with truth, for the task `yard`."""
    rng = np.random.default_rng(seed)
    rig = synthetic_rig(width, height)
    with RecordingWriter(path, rig, "yard", jpeg_quality=jpeg_quality, point_grid_m=point_grid_m) as writer:
        for frame in range(frames):
            time_ns = START_NS + frame * STEP_NS
            writer.audio("mic", time_ns - STEP_NS, _tone(frame, rng))
            writer.lidar("roof", time_ns, _sweep(points, frame, rng))
            writer.camera("front", time_ns, _picture(width, height, frame, rng))
            writer.truth(_truth(time_ns, frame, width, height))


def _tone(frame: int, rng: np.random.Generator) -> AudioChunk:
    times = (np.arange(SAMPLE_RATE_HZ // 10) + frame * SAMPLE_RATE_HZ // 10) / SAMPLE_RATE_HZ
    pcm = 8000 * np.sin(2 * np.pi * 440 * times) + rng.normal(0, 200, times.size)
    return AudioChunk(np.round(pcm).astype(np.int16), SAMPLE_RATE_HZ)


def _sweep(points: int, frame: int, rng: np.random.Generator) -> PointCloud:
    """Level ground with a wall on each side, as 32 rings see it, with 15 mm of range noise."""
    rings = 32
    up = np.deg2rad(np.linspace(-25, 5, rings))[:, None]
    around = np.linspace(-np.pi, np.pi, max(1, points // rings), endpoint=False)[None]
    ray = np.stack(np.broadcast_arrays(np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)), -1)
    with np.errstate(divide="ignore"):
        distance = np.where(ray[..., 2] < 0, -1.6 / ray[..., 2], np.inf)
        distance = np.minimum(distance, np.abs((6 + 0.01 * frame) / ray[..., 1]))
    distance = np.minimum(distance, 40.0) + rng.normal(0, 0.015, distance.shape)
    xyz = (ray * distance[..., None]).reshape(-1, 3)
    intensity = np.clip(rng.normal(0.4, 0.05, len(xyz)), 0, 1)
    return PointCloud(np.column_stack([xyz, intensity]).astype(np.float32))


def _picture(width: int, height: int, frame: int, rng: np.random.Generator) -> Image:
    """Sky, ground with grain, and a red box that moves to the right."""
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = np.linspace(200, 80, height)[:, None, None]
    pixels += rng.normal(0, 4, pixels.shape)
    left, top = _corner(frame, width, height)
    pixels[top : top + _BOX_PX, left : left + _BOX_PX] = (200, 40, 30)
    return Image(np.clip(pixels, 0, 255).astype(np.uint8))


def _truth(time_ns: int, frame: int, width: int, height: int) -> Truth:
    left, top = _corner(frame, width, height)
    drum = TruthObject(
        track=1,
        label="drum",
        condition="leaking",
        box2d=Box2D(left, top, left + _BOX_PX, top + _BOX_PX),
        box3d=Box3D(4.0 + 0.1 * frame, 0.5, 0.45, 0.6, 0.6, 0.9, 0.3),
        asked_for=True,
        action="contain",
        visibility=0.9,
    )
    return Truth(time_ns, (drum, TruthObject(track=2, label="cone")), "inspect", "look at the leaking drum")


def _corner(frame: int, width: int, height: int) -> tuple[int, int]:
    return 3 * frame % max(1, width - _BOX_PX), height // 2
