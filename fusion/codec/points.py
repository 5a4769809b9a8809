"""The `points` lane: LiDAR points as int16 steps, sorted, their differences split into byte planes, zstd.

A set of points has no order, so the one that costs least is taken: by cells of a coarse grid, along x, y, z within.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.codec.frame import pack_frame, unpack_frame
from fusion.errors import EvidenceError, InputError
from fusion.types import Float64Array, PointCrop

MAX_POINTS = 4096
STEP_M = 0.01
_BYTES = 6
_CELL_BITS = 5
_FARTHEST = 32767


def encode_points(points: Float64Array, step_m: float = STEP_M) -> PointCrop:
    """1 to `MAX_POINTS` finite `points` (N, 3) in metres of the ego frame, each kept to half a step.

    Raises `InputError` for another number, what is not finite, and a cloud more than 65,534 steps across.
    """
    if points.ndim != 2 or points.shape[1] != 3 or not 1 <= len(points) <= MAX_POINTS:
        raise InputError(f"points of shape {points.shape}; (N, 3) with 1 to {MAX_POINTS} points can be sent")
    if not np.isfinite(points).all():
        raise InputError("points that are not finite cannot be sent")
    step = float(np.float32(step_m))
    origin = np.round((points.min(0) + points.max(0)) / 2, 3)
    steps = np.rint((points - origin) / step)
    if np.abs(steps).max() > _FARTHEST:
        raise InputError(f"points {np.ptp(points, axis=0).max():g} m apart cannot be told in steps of {step_m:g} m")
    whole = _sorted(steps.astype(np.int64))
    differences = np.diff(whole, axis=0, prepend=np.zeros((1, 3), np.int64))
    wrapped = (differences & 0xFFFF).astype("<u2").astype(np.int16).astype(np.int32)
    zigzag = ((wrapped << 1) ^ (wrapped >> 15)).astype("<u2")
    planes = zigzag.view(np.uint8).reshape(len(points), _BYTES).T  # (6, N)
    x, y, z = map(float, origin)
    return PointCrop((x, y, z), step, len(points), pack_frame(np.ascontiguousarray(planes).tobytes()))


def decode_points(points: PointCrop) -> Float64Array:
    """The points (N, 3) in metres of the ego frame.

    Raises `EvidenceError` for bytes that are not exactly `count` points, or more than `MAX_POINTS` of them.
    """
    if not 1 <= points.count <= MAX_POINTS:
        raise EvidenceError(f"{points.count} points; 1 to {MAX_POINTS} are allowed")
    if not (np.isfinite([*points.origin, points.step_m]).all() and points.step_m > 0):
        raise EvidenceError(f"points about {points.origin} in steps of {points.step_m} m")
    data = unpack_frame(points.encoded, points.count * _BYTES, "bytes of points")
    planes = np.frombuffer(data, np.uint8).reshape(_BYTES, points.count)
    zigzag = np.ascontiguousarray(planes.T).view("<u2").astype(np.int32)  # (N, 3)
    differences = (zigzag >> 1) ^ -(zigzag & 1)
    steps = np.cumsum(differences, axis=0).astype(np.int16)
    return np.asarray(points.origin, np.float64) + points.step_m * steps.astype(np.float64)


def _sorted(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    cells = steps >> _CELL_BITS
    order = np.lexsort((steps[:, 2], steps[:, 1], steps[:, 0], cells[:, 2], cells[:, 1], cells[:, 0]))
    return steps[order]
