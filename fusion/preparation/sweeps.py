"""Several past sweeps as one cloud in the newest one's ego frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.errors import InputError
from fusion.geometry import apply
from fusion.preparation.deskew import deskewed, point_times_ns
from fusion.preparation.ego_motion import EgoMotion
from fusion.types import BoolArray, Float32Array, Float64Array, PointCloud, Reading

STANDING = EgoMotion()
"""Motion that nothing is known of."""


@dataclass(frozen=True, slots=True)
class OwnBody:
    """The vehicle's own body as an upright box in the ego frame, lower and upper corner in metres."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def holds(self, points: Float64Array) -> BoolArray:
        """Which of `points` (N, 3) lie inside, (N,)."""
        return np.asarray(((points >= self.low) & (points <= self.high)).all(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class MergedSweeps:
    """`points` (n, 5) float32: x y z in metres in the ego frame of the reference time, intensity 0..1, and dt, seconds
    from the reference time, at most 0. Newest sweep first, each in its own order.

    `uncompensated` of the `sweeps` merged are where the sensor was at their own time, because no motion was known.
    """

    points: Float32Array
    sweeps: int
    uncompensated: int


def merge_sweeps(
    sweeps: Sequence[Reading],
    ego_from_lidar: Float64Array,
    reference_time_ns: int,
    motion: EgoMotion = STANDING,
    *,
    body: OwnBody | None = None,
    full_scale: float = 1.0,
) -> MergedSweeps:
    """Put `sweeps` of one LiDAR, in any order, into the ego frame of `reference_time_ns`.

    Points with offsets of their own are moved from where the vehicle was at their own time (`deskewed`), where the
    motion is known for all of a sweep's; else a sweep is moved as a whole, from its capture time. Points that are not
    finite and those in `body` at their own time are dropped. Intensities are divided by `full_scale` (readers
    of this project deliver 0..1 already) and cut to 0..1. Raises `InputError` for a reading that is no (N, 4) cloud.
    """
    ordered = sorted(sweeps, key=lambda reading: -reading.capture_time_ns)
    parts, unknown = [np.zeros((0, 5), np.float32)], 0
    for reading in ordered:
        points, seconds = _sound(reading)
        points[:, :3] = apply(ego_from_lidar, points[:, :3])
        points[:, 3] = np.clip(points[:, 3] / full_scale, 0, 1)
        if body is not None:
            outside = ~body.holds(points[:, :3])
            points, seconds = points[outside], seconds[outside]
        placed = _placed(points[:, :3], seconds, reading, reference_time_ns, motion)
        unknown += placed is None
        points[:, :3] = points[:, :3] if placed is None else placed
        dt = np.minimum(seconds + (reading.capture_time_ns - reference_time_ns) / 1e9, 0.0)
        parts.append(np.concatenate([points, dt[:, None]], axis=1).astype(np.float32))
    return MergedSweeps(np.concatenate(parts), len(ordered), unknown)


def _placed(
    points: Float64Array, seconds: Float64Array, reading: Reading, to_ns: int, motion: EgoMotion
) -> Float64Array | None:
    """Points (n, 3) of a sweep, each at `seconds` after its time, in the ego frame of `to_ns`; None for no motion."""
    if seconds.any():
        own = deskewed(points, point_times_ns(reading.capture_time_ns, seconds), to_ns, motion)
        if own is not None:
            return own
    moved = motion.moved(to_ns, reading.capture_time_ns)
    if moved is None or reading.capture_time_ns == to_ns:
        return None if moved is None else points
    return apply(moved, points)


def _sound(reading: Reading) -> tuple[Float64Array, Float64Array]:
    """The finite points (n, 4) of a sweep, and each one's seconds from its capture time (n,)."""
    cloud = reading.payload
    if not isinstance(cloud, PointCloud) or cloud.points.ndim != 2 or cloud.points.shape[1] != 4:
        raise InputError(f"sensor {reading.sensor}: a sweep must be a point cloud of shape (N, 4)")
    finite = np.isfinite(cloud.points).all(axis=1)
    offsets = np.zeros(len(cloud.points)) if cloud.offsets_s is None else cloud.offsets_s.astype(np.float64)
    return cloud.points[finite].astype(np.float64), offsets[finite]
