"""LiDAR scans as plain float32 records without a header, and what is checked before one is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.recording.driving.dataset import Report, read_file
from fusion.types import BoolArray, Float32Array


def read_scan(path: Path, columns: int, report: Report) -> tuple[Float32Array, BoolArray]:
    """The points (N, `columns`) of a file of little-endian float32, and which of them (N,) hold finite numbers only.

    Reports a last point that is cut short (which is left out) and points that are not finite, with place and count.
    """
    data = read_file(path)
    step = 4 * columns
    whole = len(data) - len(data) % step
    if whole != len(data):
        report(
            f"{path}: {len(data)} bytes are not a whole number of points of {step} bytes; it is cut short after byte "
            f"{whole}"
        )
    points = np.frombuffer(data[:whole], "<f4").reshape(-1, columns)
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        report(
            f"{path}: {np.count_nonzero(~finite)} of {len(points)} points are not finite, the first is point {first} "
            f"at byte {first * step}; salvaging leaves them out"
        )
    return points, finite
