"""Sweeps as a person can check them: drawn into a picture, or seen from above."""

from __future__ import annotations

import cv2
import numpy as np

from fusion.geometry import CameraCalibration, apply
from fusion.types import Float64Array, PointCloud, UInt8Array

_NEAR_M, _FAR_M = 2.0, 60.0
_RADIUS_M, _PIXELS_PER_M = 40.0, 10
_LOW_M, _HIGH_M = -0.5, 3.0
_DOTS_ACROSS = 800
_DARKEST = 0.1
"""Where the colours begin: the scale's own end is as good as black."""


def draw_projection(
    pixels: UInt8Array, cloud: PointCloud, camera: CameraCalibration, ego_from_lidar: Float64Array
) -> UInt8Array:
    """`pixels` (H, W, 3), darkened, with the points that lie in it, red at 2 m to blue at 60 m and beyond.

    Points are larger in larger pictures, so that they are still seen when the picture is shown smaller.
    """
    ego = apply(ego_from_lidar, np.asarray(cloud.points[:, :3], np.float64))
    places, inside = camera.project(ego)
    depth = np.linalg.norm(ego - camera.ego_from_camera[:3, 3], axis=1)
    places, depth = places[inside], depth[inside]
    share = 1 - np.log(np.clip(depth, _NEAR_M, _FAR_M) / _NEAR_M) / np.log(_FAR_M / _NEAR_M)
    colours = _colours(_DARKEST + (1 - _DARKEST) * share)
    radius = max(1, pixels.shape[1] // _DOTS_ACROSS)
    drawn = (np.ascontiguousarray(pixels) * 0.6).astype(np.uint8)
    for index in np.argsort(-depth):
        u, v = places[index]
        cv2.circle(drawn, (int(u), int(v)), radius, [int(c) for c in colours[index]], -1)
    return drawn


def draw_from_above(cloud: PointCloud, ego_from_lidar: Float64Array) -> UInt8Array:
    """The 40 m around the ego frame (800, 800, 3), x upwards, y to the left.

    Points are blue 0.5 m below the ego frame to red 3 m above it and beyond; where their classes are known, each
    class has a colour.
    """
    ego = apply(ego_from_lidar, np.asarray(cloud.points[:, :3], np.float64))
    near = np.abs(ego[:, :2]).max(axis=1) < _RADIUS_M
    order = np.flatnonzero(near)[np.argsort(ego[near, 2], kind="stable")]
    if cloud.labels is None:
        share = np.clip((ego[:, 2] - _LOW_M) / (_HIGH_M - _LOW_M), 0, 1)
    else:
        share = cloud.labels * np.uint16(73) % 256 / 255
    rows, columns = ((_RADIUS_M - ego[order, axis]) * _PIXELS_PER_M for axis in (0, 1))
    size = round(2 * _RADIUS_M * _PIXELS_PER_M)
    drawn = np.zeros((size, size, 3), np.uint8)
    drawn[rows.astype(int).clip(0, size - 1), columns.astype(int).clip(0, size - 1)] = _colours(share)[order]
    return drawn


def _colours(share: Float64Array) -> UInt8Array:
    """RGB (N, 3) of shares (N,) in 0..1, blue to red."""
    if not share.size:
        return np.zeros((0, 3), np.uint8)
    levels = np.round(share * 255).astype(np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1], np.uint8)
