"""Transforms and camera calibration.

Frames follow REP-103: `ego` and `lidar` have x forward, y left, z up, in metres; a camera's optical
frame has z forward, x right, y down. A 4x4 transform named `a_from_b` takes points of b to a.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from fusion.errors import InputError
from fusion.lens import Lens, lens_of
from fusion.types import BoolArray, Float64Array, UInt8Array

CAMERA_OPTICAL_FROM_BODY: Float64Array = np.array(
    [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64
)
"""Optical axes (x right, y down, z forward) from body axes (x forward, y left, z up)."""


def rigid(rotation: Float64Array, translation: Float64Array) -> Float64Array:
    """The 4x4 transform of a (3, 3) rotation and a (3,) translation in metres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def rotation_z(yaw: float) -> Float64Array:
    """The (3, 3) rotation by `yaw` radians about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float64)


def rotation_y(pitch: float) -> Float64Array:
    """The (3, 3) rotation by `pitch` radians about y; positive pitch turns x downwards."""
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float64)


def invert(transform: Float64Array) -> Float64Array:
    """The inverse of a rigid 4x4 transform."""
    rotation = transform[:3, :3].T
    return rigid(rotation, -rotation @ transform[:3, 3])


def apply(transform: Float64Array, points: Float64Array) -> Float64Array:
    """`points` (N, 3) taken through a 4x4 transform, (N, 3)."""
    return np.asarray(points, np.float64) @ transform[:3, :3].T + transform[:3, 3]


@dataclass(frozen=True, slots=True, eq=False)
class CameraCalibration:
    """A camera as one typed object.

    `k` (3, 3) intrinsics in pixels of an image `width` x `height`; `distortion` (n,) coefficients in
    OpenCV's plumb-bob order (n of 0, 4, 5 or 8); `ego_from_camera` (4, 4) takes optical-frame points
    to the ego frame.
    """

    width: int
    height: int
    k: Float64Array
    distortion: Float64Array
    ego_from_camera: Float64Array

    def __post_init__(self) -> None:
        if self.k.shape != (3, 3) or self.ego_from_camera.shape != (4, 4):
            raise InputError(f"calibration shapes: k {self.k.shape}, ego_from_camera {self.ego_from_camera.shape}")
        if self.distortion.size not in (0, 4, 5, 8):
            raise InputError(f"distortion has {self.distortion.size} coefficients; 0, 4, 5 or 8 are known")
        if not all(np.isfinite(part).all() for part in (self.k, self.distortion, self.ego_from_camera)):
            raise InputError("calibration holds numbers that are not finite")

    @classmethod
    def pinhole(cls, width: int, height: int, horizontal_fov_rad: float, ego_from_camera: Float64Array) -> Self:
        """An ideal camera with square pixels and the principal point in the middle."""
        focal = width / 2 / np.tan(horizontal_fov_rad / 2)
        k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float64)
        return cls(width, height, k, np.zeros(0), ego_from_camera)

    def resized(self, scale_x: float, scale_y: float, offset_x: float, offset_y: float, size: tuple[int, int]) -> Self:
        """The calibration after pixels move to `u * scale + offset` in an image of `size` (width, height)."""
        move = np.array([[scale_x, 0, offset_x], [0, scale_y, offset_y], [0, 0, 1]])
        return replace(self, width=size[0], height=size[1], k=move @ self.k)

    def fits(self, pixels: UInt8Array) -> bool:
        """Whether a picture (H, W, 3) has the size the calibration is for."""
        return pixels.shape[:2] == (self.height, self.width)

    def check_picture(self, camera: str, pixels: UInt8Array) -> None:
        """Raise `InputError` where a picture (H, W, 3) of `camera` has another size than the calibration is for."""
        if not self.fits(pixels):
            height, width = pixels.shape[:2]
            raise InputError(
                f"camera {camera!r} delivered a picture of {width}x{height} pixels; its calibration is for "
                f"{self.width}x{self.height}: deliver that size, or calibrate the camera for {width}x{height}"
            )

    def rays(self, pixels: Float64Array) -> Float64Array:
        """Unit directions (N, 3) in the ego frame of `pixels` (N, 2), through the lens: `project` takes them back.

        Pixels that the lens terms reach nowhere have the ray of the farthest radius they hold for.
        """
        plane = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(self.k).T
        if lens := self._lens():
            plane[:, 0], plane[:, 1] = lens.undistort(plane[:, 0], plane[:, 1])
        directions = plane @ self.ego_from_camera[:3, :3].T
        return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))

    def project(self, points: Float64Array) -> tuple[Float64Array, BoolArray]:
        """Pixels (N, 2) of ego-frame `points` (N, 3), and which of them lie before the camera and inside the image.

        What lies farther out than the lens terms hold is not inside.
        """
        camera = apply(invert(self.ego_from_camera), points)
        depth = camera[:, 2]
        safe = np.where(depth > 1e-6, depth, 1.0)
        x, y = camera[:, 0] / safe, camera[:, 1] / safe
        held = np.ones(len(x), np.bool_)
        if lens := self._lens():
            held = np.hypot(x, y) <= lens.limit
            x, y = lens.distort(x, y)
        u = self.k[0, 0] * x + self.k[0, 1] * y + self.k[0, 2]
        v = self.k[1, 1] * y + self.k[1, 2]
        inside = held & (depth > 1e-6) & (u >= 0) & (v >= 0) & (u < self.width) & (v < self.height)
        return np.stack([u, v], axis=1), inside

    def _lens(self) -> Lens | None:
        return lens_of(tuple(map(float, self.distortion))) if self.distortion.size else None


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """Where a device's sensors sit, by sensor name: calibrated cameras, and `ego_from_lidar` (4, 4) for LiDARs."""

    cameras: Mapping[str, CameraCalibration]
    ego_from_lidar: Mapping[str, Float64Array] = field(default_factory=dict)
