"""A LiDAR sweep → the fixed-size input of the LiDAR encoder."""

from __future__ import annotations

import numpy as np

from fusion.errors import InputError
from fusion.types import BoolArray, Float32Array, Float64Array, PointCloud

MAX_POINTS = 16384
NEAREST_M = 0.5
FARTHEST_M = 40.0
"""Returns nearer than the device's own body or farther than this from the sensor are dropped."""


def points_input(
    cloud: PointCloud, ego_from_lidar: Float64Array, max_points: int = MAX_POINTS
) -> tuple[Float32Array, BoolArray]:
    """`points` (1, max_points, 4) float32: x, y, z in metres in the ego frame and intensity; `valid` (1, max_points).

    Points that are not finite or out of range are dropped; of more than `max_points`, every n-th of the sweep's
    order is kept, so the same sweep always gives the same input. Unused rows are zero and not valid. Raises
    `InputError` when the cloud is no (N, 4) table.
    """
    points = cloud.points
    if points.ndim != 2 or points.shape[1] != 4:
        raise InputError(f"a point cloud of shape {points.shape}; (N, 4) is needed")
    xyz = points[:, :3]
    squared = np.einsum("ij,ij->i", xyz, xyz)  # NaN and infinity fail both comparisons below or the last
    inside = (squared >= NEAREST_M**2) & (squared <= FARTHEST_M**2) & np.isfinite(points[:, 3])
    kept = np.flatnonzero(inside)
    if len(kept) > max_points:
        kept = kept[np.arange(max_points, dtype=np.int64) * len(kept) // max_points]
    result = np.zeros((1, max_points, 4), np.float32)
    valid = np.zeros((1, max_points), np.bool_)
    rotation, translation = ego_from_lidar[:3, :3].astype(np.float32), ego_from_lidar[:3, 3].astype(np.float32)
    result[0, : len(kept), :3] = xyz[kept] @ rotation.T + translation
    result[0, : len(kept), 3] = points[kept, 3]
    valid[0, : len(kept)] = True
    return result, valid
