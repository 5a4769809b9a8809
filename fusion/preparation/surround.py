"""The cameras of a rig → the fusion model's input: pictures, rays, and where each ego point lies in each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from fusion.errors import InputError
from fusion.geometry import CameraCalibration, invert
from fusion.preparation.image import PADDING_GREY
from fusion.preparation.rays import RAY_DEPTHS, cell_rays
from fusion.types import BoolArray, Float32Array, Float64Array, UInt8Array

STRIDE = 16
"""Pixels of the input along the side of a cell that has a ray."""
_VIEWS_KEPT = 64
_THINS = 0.5


@dataclass(frozen=True, slots=True)
class InputSize:
    """Size of each camera's input in pixels, multiples of `stride`.

    A picture is scaled to the input's width. Of the rows too many, the share `lower` is cut off at the top, the rest
    at the bottom (1 keeps the lower part, as BEVFusion does: the sky tells little); rows too few are grey at the top.
    """

    width: int
    height: int
    lower: float = 1.0
    stride: int = STRIDE

    def __post_init__(self) -> None:
        if self.stride < 1 or min(self.width, self.height) < self.stride or self.width % self.stride:
            raise InputError(f"camera input {self.width}x{self.height}: give multiples of {self.stride} pixels")
        if self.height % self.stride or not 0 <= self.lower <= 1:
            raise InputError(
                f"camera input {self.width}x{self.height}, lower {self.lower}: give a height that is a multiple of "
                f"{self.stride} pixels, and a share in 0..1"
            )

    @property
    def cells(self) -> int:
        """Cells, and so rays, of a camera."""
        return (self.width // self.stride) * (self.height // self.stride)


@dataclass(frozen=True, slots=True, eq=False)
class Surround:
    """V cameras in the order asked for; one that is not there is zeros, and not `available`.

    `images` (V, 3, H, W) uint8 RGB; `rays` (V, N, 48) float32, see `cell_rays`; `image_from_ego` (V, 3, 4) float32
    takes homogeneous ego points to (u·d, v·d, d), d metres before the camera, u and v in 0..1 of the input image;
    `available` (V,); `age` (V,) float32 seconds.
    """

    images: UInt8Array
    rays: Float32Array
    image_from_ego: Float32Array
    available: BoolArray
    age: Float32Array


class CameraView:
    """All that follows from one camera's calibration alone. Use `camera_view`, which keeps them.

    The input image is an undistorted pinhole's: `calibration` says which. `rays` (N, 48) float32 and `image_from_ego`
    (3, 4) float64 as in `Surround`.
    """

    def __init__(self, camera: CameraCalibration, size: InputSize) -> None:
        scale = size.width / camera.width
        self._rows = max(1, round(camera.height * scale))
        self._size, self._source = size, (camera.height, camera.width)
        spare = self._rows - size.height
        self._top = round(spare * size.lower) if spare > 0 else spare
        scale_y = self._rows / camera.height
        scaled = camera.resized(scale, scale_y, 0, 0, (size.width, self._rows))
        ideal = CameraCalibration(scaled.width, scaled.height, scaled.k, np.zeros(0), scaled.ego_from_camera)
        self.calibration = ideal.resized(1, 1, 0, -self._top, (size.width, size.height))
        self._undistort = None
        if camera.distortion.size:
            self._undistort = cv2.initUndistortRectifyMap(
                scaled.k, camera.distortion, None, scaled.k, (size.width, self._rows), cv2.CV_16SC2
            )
        self.rays = cell_rays(self.calibration, size.stride)[0]
        self.image_from_ego = _projection(self.calibration)

    def picture(self, pixels: UInt8Array) -> UInt8Array:
        """`pixels` (H, W, 3) of the camera as its input (3, H, W). Raises `InputError` for another size."""
        if pixels.shape != (*self._source, 3) or pixels.dtype != np.uint8:
            height, width = self._source
            raise InputError(
                f"a picture of shape {pixels.shape} and type {pixels.dtype}; the camera's calibration is of "
                f"({height}, {width}, 3) uint8"
            )
        size, scale = self._size, self._size.width / self._source[1]
        method = cv2.INTER_AREA if scale < _THINS else cv2.INTER_LINEAR
        scaled = cv2.resize(pixels, (size.width, self._rows), interpolation=method)
        if self._undistort is not None:
            scaled = cv2.remap(scaled, *self._undistort, cv2.INTER_LINEAR, borderValue=(PADDING_GREY,) * 3)
        if self._top < 0:
            canvas = np.full((size.height, size.width, 3), PADDING_GREY, np.uint8)
            canvas[-self._top :] = scaled
        else:
            canvas = scaled[self._top : self._top + size.height]
        return np.ascontiguousarray(canvas.transpose(2, 0, 1))


@lru_cache(maxsize=_VIEWS_KEPT)
def camera_view(camera: CameraCalibration, size: InputSize) -> CameraView:
    """The view of a calibration, made once for each such object: with a rig that stays, no sample pays for it."""
    return CameraView(camera, size)


def surround(
    cameras: Sequence[str],
    calibrations: Mapping[str, CameraCalibration],
    pictures: Mapping[str, tuple[UInt8Array, float]],
    size: InputSize,
    moved: Mapping[str, Float64Array] | None = None,
) -> Surround:
    """The input of `cameras`, from their `pictures`: pixels (H, W, 3) and age in seconds.

    A camera without picture or without calibration is not available. Where it is known how the vehicle moved since
    the picture was taken, `moved` has `ego_now_from_ego_then` (4, 4) of the camera: rays and projection then are those
    of the ego frame now.
    """
    count = len(cameras)
    images = np.zeros((count, 3, size.height, size.width), np.uint8)
    rays = np.zeros((count, size.cells, 3 * len(RAY_DEPTHS)), np.float32)
    projections = np.zeros((count, 3, 4), np.float32)
    available, age = np.zeros(count, np.bool_), np.zeros(count, np.float32)
    for row, name in enumerate(cameras):
        if name not in pictures or name not in calibrations:
            continue
        pixels, age[row] = pictures[name]
        view = camera_view(calibrations[name], size)
        images[row], available[row] = view.picture(pixels), True
        transform = (moved or {}).get(name)
        rays[row] = view.rays if transform is None else move_rays(transform, view.rays)
        projections[row] = view.image_from_ego if transform is None else view.image_from_ego @ np.linalg.inv(transform)
    return Surround(images, rays, projections, available, age)


def move_rays(transform: Float64Array, rays: Float32Array) -> Float32Array:
    """The points of `rays` (..., 48) taken through a (4, 4) transform."""
    points = rays.reshape(-1, 3) @ transform[:3, :3].T + transform[:3, 3]  # (N·16, 3)
    return np.asarray(points, np.float32).reshape(rays.shape)


def _projection(camera: CameraCalibration) -> Float64Array:
    """`image_from_ego` (3, 4) of an undistorted camera."""
    shares = np.diag([1 / camera.width, 1 / camera.height, 1.0])
    return np.asarray(shares @ camera.k @ invert(camera.ego_from_camera)[:3])
