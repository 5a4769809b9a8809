"""What the KITTI data sets have in common: scans, calibration files, frame numbers, sensors and where they sit.

Layout and calibration: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013, and its development kits.
The ego frame lies on the road under the LiDAR, 1.73 m below it as in the paper's drawing of the car, with the LiDAR's
axes (x forward, y left, z up), so that `ego_from_lidar` is a mere shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.geometry import CameraCalibration, invert, rigid
from fusion.recording.driving.dataset import Report, refuse
from fusion.recording.driving.scan_file import read_scan
from fusion.types import Float64Array, PointCloud

LIDAR = "velodyne"
CAMERAS = ("left-grey", "right-grey", "left", "right")
"""By KITTI's camera number; its folders are `image_00` of a raw drive and `image_0` elsewhere."""
LEFT = CAMERAS[2]
LIDAR_HEIGHT_M = 1.73
EGO_FROM_LIDAR: Float64Array = rigid(np.eye(3), np.array([0.0, 0.0, LIDAR_HEIGHT_M]))
NOMINAL_HZ = 10
PICTURES = (".png", ".jpg")
"""What pictures are called; the data sets have PNGs, smaller copies of them JPEGs."""
LICENCE = "CC BY-NC-SA 3.0 (KITTI: non-commercial)"
_LONGEST_NAME = 10
_ROUNDING = 1e-3


def read_velodyne(path: Path, report: Report = refuse) -> PointCloud:
    """A `.bin` sweep: float32 x, y, z, reflectance 0..1. See `read_scan` for what is reported."""
    points, finite = read_scan(path, 4, report)
    return PointCloud(points if finite.all() else points[finite])


def load_velodyne(files: tuple[Path, ...], report: Report) -> PointCloud:
    """The sweep of a reading's file."""
    return read_velodyne(files[0], report)


def numbered_files(folder: Path, *suffixes: str) -> dict[int, Path]:
    """The files of a folder by frame number, ascending; raises `RecordingError` for a name that is none or is twice."""
    found: dict[int, Path] = {}
    for path in sorted(path for suffix in suffixes for path in folder.glob(f"*{suffix}")):
        if not (path.stem.isdecimal() and path.stem.isascii() and len(path.stem) <= _LONGEST_NAME):
            raise RecordingError(f"{path}: the name is not a frame number")
        if found.setdefault(int(path.stem), path) != path:
            raise RecordingError(f"{path}: is of the same frame as {found[int(path.stem)].name}")
    return dict(sorted(found.items()))


def nominal_ns(frame: int) -> int:
    """Frame n is put at n / 10 s where nothing tells its time."""
    return frame * 1_000_000_000 // NOMINAL_HZ


def parse_numbers(text: bytes) -> dict[str, list[float]]:
    """The lines `key: numbers` of a calibration file; lines of another kind, such as dates, are passed over."""
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        key, _, rest = line.partition(":")
        try:
            found[key.strip()] = [float(word) for word in rest.split()]
        except ValueError:
            continue
    return found


def matrix(numbers: Mapping[str, list[float]], key: str, shape: tuple[int, ...], path: Path) -> Float64Array:
    """An entry of a calibration file as an array; raises `RecordingError` when it is missing or of another size."""
    values = np.array(numbers.get(key, []), np.float64)
    if values.size != np.prod(shape) or not np.isfinite(values).all():
        raise RecordingError(f"{path}: '{key}' is missing or is not {int(np.prod(shape))} numbers")
    return values.reshape(shape)


def rotation(numbers: Mapping[str, list[float]], key: str, path: Path) -> Float64Array:
    """An entry of a calibration file that is a rotation (3, 3); raises `RecordingError` when it is none."""
    return _checked_rotation(matrix(numbers, key, (3, 3), path), key, path)


def affine(numbers: Mapping[str, list[float]], key: str, path: Path) -> Float64Array:
    """An entry of a calibration file that is a rigid transform (3, 4), as (4, 4). Raises `RecordingError`."""
    values = matrix(numbers, key, (3, 4), path)
    return rigid(_checked_rotation(values[:, :3], key, path), values[:, 3])


def _checked_rotation(values: Float64Array, key: str, path: Path) -> Float64Array:
    if np.abs(values @ values.T - np.eye(3)).max() > _ROUNDING or np.linalg.det(values) < 0:
        raise RecordingError(f"{path}: '{key}' holds no rotation")
    return values


def calibrated(
    projection: Float64Array, size: tuple[int, int], rectified_from_lidar: Float64Array, path: Path
) -> CameraCalibration:
    """A rectified camera from its `projection` (3, 4) of points in the rectified frame of camera 0.

    P = K [I | t]: t is where the rectified camera 0 lies in this camera's frame. `size` is (width, height).
    """
    k = projection[:, :3]
    try:
        offset = np.asarray(np.linalg.solve(k, projection[:, 3]), np.float64)
        camera_from_lidar = rigid(np.eye(3), offset) @ rectified_from_lidar
        return CameraCalibration(*size, k, np.zeros(0), EGO_FROM_LIDAR @ invert(camera_from_lidar))
    except (np.linalg.LinAlgError, InputError) as error:
        raise RecordingError(f"{path}: a projection that belongs to no camera ({error})") from None
