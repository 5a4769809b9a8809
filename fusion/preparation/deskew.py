"""A sweep as if all its points had been measured at one moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.geometry import apply, invert
from fusion.preparation.ego_motion import EgoMotion, rotation_vector
from fusion.types import Float32Array, Float64Array, PointCloud


def deskewed(points: Float64Array, times_ns: NDArray[np.int64], to_ns: int, motion: EgoMotion) -> Float64Array | None:
    """Points (n, 3) of the ego frame each at its own time (n,) → the ego frame at `to_ns`, metres.

    Between two places the frame moves as in `EgoMotion.at`. None where the motion does not cover `to_ns` and every
    point: a part that is left as it is would tear what is straight.
    """
    ends = (int(times_ns.min()), int(times_ns.max())) if times_ns.size else ()
    here = motion.at(to_ns)
    if here is None or any(motion.at(time_ns) is None for time_ns in ends):
        return None
    known = np.array(motion.times_ns, np.int64)
    legs = np.maximum(np.searchsorted(known, times_ns), 1)  # a leg ends at the place of its number
    placed = np.empty((len(points), 3))
    for leg in np.unique(legs):
        its = legs == leg
        if len(known) == 1:
            placed[its] = apply(motion.map_from_ego[0], points[its])
            continue
        begin, end = motion.map_from_ego[leg - 1], motion.map_from_ego[leg]
        share = (times_ns[its] - known[leg - 1]) / float(known[leg] - known[leg - 1])
        turned = _turned(points[its], rotation_vector(begin[:3, :3].T @ end[:3, :3]), share)
        placed[its] = turned @ begin[:3, :3].T + begin[:3, 3] + share[:, None] * (end[:3, 3] - begin[:3, 3])
    return apply(invert(here), placed)


def point_times_ns(time_ns: int, offsets_s: Float32Array | Float64Array) -> NDArray[np.int64]:
    """When each point of a sweep was measured, (n,), by its `offsets_s` (n,) from the sweep's capture time."""
    return time_ns + np.rint(offsets_s.astype(np.float64) * 1e9).astype(np.int64)


def still_sweep(cloud: PointCloud, time_ns: int, ego_from_lidar: Float64Array, motion: EgoMotion) -> PointCloud | None:
    """A sweep captured at `time_ns` as if every point had been measured then, so without offsets; sensor frame.

    None where the motion does not cover the times of all its points (`deskewed`).
    """
    if cloud.offsets_s is None:
        return cloud
    times_ns = point_times_ns(time_ns, cloud.offsets_s)
    placed = deskewed(apply(ego_from_lidar, cloud.points[:, :3].astype(np.float64)), times_ns, time_ns, motion)
    if placed is None:
        return None
    points = cloud.points.copy()
    points[:, :3] = apply(invert(ego_from_lidar), placed)
    return replace(cloud, points=points, offsets_s=None)


def _turned(points: Float64Array, vector: Float64Array, share: Float64Array) -> Float64Array:
    """Points (n, 3) turned about `vector` (3,) by a `share` (n,) of its length in radians (Rodrigues 1840)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return points
    axis, turn = vector / angle, (share * angle)[:, None]
    along = (points @ axis)[:, None] * axis
    return np.asarray(points * np.cos(turn) + np.cross(axis, points) * np.sin(turn) + along * (1 - np.cos(turn)))
