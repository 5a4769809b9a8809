"""Camera rays as 3-D points: what tells the fusion model where a pixel looks."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fusion.geometry import CameraCalibration
from fusion.types import Float32Array, Float64Array

RAY_DEPTHS: Float64Array = np.geomspace(1.0, 40.0, 16)
"""Distances along a ray, in metres, whose points describe it; log-spaced."""
GROUND_REACH_M = 30.0
"""How far away a ray that never meets the ground is said to end."""


class Placed(Protocol):
    """Where an image went inside the model's input: `pixel * scale + (dx, dy)`."""

    @property
    def scale(self) -> float:
        """Pixels of the input a pixel of the image."""

    @property
    def dx(self) -> float:
        """Columns of padding on the left."""

    @property
    def dy(self) -> float:
        """Rows of padding at the top."""


def input_calibration(calibration: CameraCalibration, placement: Placed, width: int, height: int) -> CameraCalibration:
    """The calibration of the model's input image, `width` x `height` pixels, that `placement` put the camera's into."""
    return calibration.resized(placement.scale, placement.scale, placement.dx, placement.dy, (width, height))


def ray_points(calibration: CameraCalibration, pixels: Float64Array) -> Float32Array:
    """Points in the ego frame at `RAY_DEPTHS` along the rays of `pixels` (N, 2) → (N, 48) metres."""
    directions = calibration.rays(pixels)  # (N, 3)
    origin = calibration.ego_from_camera[:3, 3]
    points = origin + directions[:, None, :] * RAY_DEPTHS[None, :, None]  # (N, 16, 3)
    return points.reshape(len(pixels), -1).astype(np.float32)


def cell_rays(calibration: CameraCalibration, stride: int = 16) -> Float32Array:
    """Rays of the centres of all cells of `stride` pixels, row by row: (1, cells, 48) metres in the ego frame."""
    rows, columns = calibration.height // stride, calibration.width // stride
    v, u = np.meshgrid((np.arange(rows) + 0.5) * stride, (np.arange(columns) + 0.5) * stride, indexing="ij")
    pixels = np.stack([u.ravel(), v.ravel()], 1)
    return ray_points(calibration, pixels)[None]


def ground_points(calibration: CameraCalibration, pixels: Float64Array) -> Float64Array:
    """Where the rays of `pixels` (N, 2) meet the ground z = 0 of the ego frame, (N, 3) metres, at most
    `GROUND_REACH_M` away.
    """
    directions = calibration.rays(pixels)
    origin = calibration.ego_from_camera[:3, 3]
    falling = directions[:, 2] < -1e-3
    length = np.where(falling, -origin[2] / np.where(falling, directions[:, 2], -1.0), GROUND_REACH_M)
    length = np.clip(length, 0.0, GROUND_REACH_M)
    points = origin + directions * length[:, None]
    return np.asarray(points * np.array([1.0, 1.0, 0.0]))
