"""Points of named fields, as ROS and PCD have them, made into sweeps: which field means what, and in which unit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.types import Float32Array, PointCloud

AXES = ("x", "y", "z")
INTENSITIES = ("intensity", "reflectivity", "i", "intensities")
"""Fields the fourth column is made from: the first of them that the points have."""
TIMES = ("t", "time", "timestamp", "offset_time", "time_offset", "time_stamp")
LONGEST_SWEEP_S = 10.0
MAX_POINTS = 1 << 24
_NS = 1e-9
_SECOND_NS = 10**9
_SINCE_1973_NS = 10**17


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What the columns of a sensor's sweeps are made from.

    `full` is the value of the field `intensity` that means 1; `time` the field that tells when a point was measured.
    """

    intensity: str = ""
    full: float = 1.0
    time: str = ""

    @property
    def used(self) -> tuple[str, ...]:
        """The fields that are read."""
        return tuple(name for name in (*AXES, self.intensity, self.time) if name)

    def __str__(self) -> str:
        if not self.intensity:
            return "0: the points have none"
        return f"field {self.intensity} / {self.full:g}"


def find_fields(names: Collection[str]) -> FieldRule:
    """The rule by names alone; raises `InputError` when a coordinate is missing."""
    missing = [axis for axis in AXES if axis not in names]
    if missing:
        raise InputError(f"the points have no field {', '.join(missing)}; they have {', '.join(names) or 'none'}")
    intensity = next((name for name in INTENSITIES if name in names), "")
    return FieldRule(intensity, 1.0, next((name for name in TIMES if name in names), ""))


def full_scale(values: NDArray[Any]) -> float:
    """What intensity 1 is, judged by a sensor's first sweep.

    Bytes end at 255. Of wider numbers: 1 if they are floats and none is above it; else 255, 511, 1023 and so on to
    65535, the first that at most one in a hundred of those above 0 exceeds (mirrors and signs may, and are clipped).
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 1:
        return float(np.iinfo(values.dtype).max)
    known = np.asarray(values[np.isfinite(values) & (values > 0)], np.float64)
    if values.dtype.kind == "f" and not (known > 1).any():
        return 1.0
    scales = (2.0**bits - 1 for bits in range(8, 16))
    return next((full for full in scales if np.count_nonzero(known > full) <= len(known) // 100), 65535.0)


def sweep_of(packed: NDArray[Any], rule: FieldRule, time_ns: int) -> tuple[PointCloud, int]:
    """The sweep of a structured array measured from `time_ns` on, and how many points were dropped.

    Dropped are points that are not finite and points at 0, 0, 0, which is how sensors write that nothing came back.
    """
    points = np.empty((len(packed), 4), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, axis in enumerate(AXES):
            points[:, column] = packed[axis]
        points[:, 3] = packed[rule.intensity] / rule.full if rule.intensity else 0
    kept = np.isfinite(points).all(axis=1) & points[:, :3].any(axis=1)
    np.clip(points[:, 3], 0, 1, out=points[:, 3])
    dropped = int(len(points) - np.count_nonzero(kept))
    times = packed[rule.time] if rule.time else None
    if dropped:
        points = points[kept]
        times = None if times is None else times[kept]
    return PointCloud(points, None if times is None else offsets_s(times, time_ns)), dropped


def offsets_s(times: NDArray[Any], time_ns: int) -> Float32Array | None:
    """Point times in seconds from `time_ns`, None when they cannot be understood.

    Integers are nanoseconds, floats seconds; both from the sweep's stamp when they are small, since 1970 when they
    are as large as that makes them (float64 may also hold nanoseconds since 1970, integers microseconds). No sweep
    is longer than 10 s, so anything that would be is on a clock of its own.
    """
    if not times.size:
        return np.zeros(0, np.float32)
    integer = times.dtype.kind in "iu"
    low, high = times.min(), times.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    low, high = (int(low), int(high)) if integer else (float(low), float(high))
    if max(abs(low), abs(high)) <= LONGEST_SWEEP_S * (1e9 if integer else 1):
        result = np.asarray(times, np.float64) * (_NS if integer else 1)
    elif (step := absolute_step_ns(times)) is None:
        return None
    elif integer:
        result = np.asarray((times.astype(np.int64) * int(step) - time_ns) * _NS, np.float64)
    elif step == 1:
        result = np.asarray((times - time_ns) * _NS, np.float64)
    else:  # whole seconds go first: a float64 holds a part of one more exactly than the time since 1970
        result = np.asarray(times - time_ns // _SECOND_NS - time_ns % _SECOND_NS * _NS, np.float64)
    if np.abs(result).max() > LONGEST_SWEEP_S:
        return None
    return np.asarray(result, np.float32)


def absolute_step_ns(times: NDArray[Any]) -> float | None:
    """The unit of times since 1970 in nanoseconds, found from their size; None when they are not since 1970."""
    low, high = (float(times.min()), float(times.max())) if times.size else (0.0, 0.0)
    if times.dtype.itemsize < 8:
        return None  # 32 bits cannot hold a time since 1970 to a part of a sweep
    for step in (1e9, 1.0) if times.dtype.kind == "f" else (1.0, 1e3):
        if low * step >= _SINCE_1973_NS and high * step < (1 << 63):
            return step
    return None


def start_ns(times: NDArray[Any]) -> int | None:
    """The earliest of times since 1970, in nanoseconds; None when they are not since 1970."""
    if not times.size or not np.isfinite(times).all():
        return None
    step = absolute_step_ns(times)
    if step is None:
        return None
    earliest: float = times.min().item()
    whole, part = divmod(earliest, 1)
    return int(whole) * int(step) + round(part * step)
