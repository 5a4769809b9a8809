"""Calibration files of KITTI object frames, one a frame, and the cameras they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import CameraCalibration, invert, rigid
from fusion.recording.driving.dataset import picture_size, read_file
from fusion.recording.driving.kitti_files import (
    EGO_FROM_LIDAR,
    affine,
    calibrated,
    matrix,
    parse_numbers,
    rotation,
)
from fusion.types import Float64Array

_Key: TypeAlias = tuple[bytes, bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class FrameCalibration:
    """One calibration file: its numbers by key, and `rectified_from_lidar` (4, 4), rectified meaning camera 0."""

    path: Path
    numbers: Mapping[str, list[float]]
    rectified_from_lidar: Float64Array

    @property
    def ego_from_rectified(self) -> Float64Array:
        """(4, 4)."""
        return EGO_FROM_LIDAR @ invert(self.rectified_from_lidar)

    def projection(self, camera: int) -> Float64Array:
        """P of KITTI's camera number `camera`, (3, 4)."""
        return matrix(self.numbers, f"P{camera}", (3, 4), self.path)


class CalibrationFolder:
    """The files `FRAME.txt` of a `calib/` folder; equal ones are parsed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parsed: dict[bytes, FrameCalibration] = {}

    def path(self, name: str) -> Path:
        """Where the calibration of the frame called `name` (such as 000123) is."""
        return self.folder / f"{name}.txt"

    def of(self, name: str) -> FrameCalibration:
        """The calibration of a frame; raises `RecordingError` naming the file that is missing or wrong."""
        path = self.path(name)
        if not path.is_file():
            raise RecordingError(f"{path}: no such file, so frame {name} has no calibration")
        data = read_file(path)
        if data not in self._parsed:
            numbers = parse_numbers(data)
            rectified = rigid(rotation(numbers, "R0_rect", path), np.zeros(3))
            self._parsed[data] = FrameCalibration(path, numbers, rectified @ affine(numbers, "Tr_velo_to_cam", path))
        return self._parsed[data]


@dataclass(frozen=True, slots=True)
class Cameras:
    """The cameras that one folder of pictures was taken with, which took which frame, and what is wrong with others."""

    calibrations: Mapping[str, CameraCalibration]
    name_of_frame: Mapping[int, str]
    problems: Mapping[int, str]


def find_cameras(base: str, number: int, pictures: Mapping[int, Path], calibrations: CalibrationFolder) -> Cameras:
    """Sort pictures by calibration and size; the commonest are of camera `base`, the next of `base`-2, and so on.

    A frame without a usable calibration or picture header is of no camera, but has a problem.
    """
    taken: dict[int, _Key] = {}
    cameras: dict[_Key, CameraCalibration] = {}
    problems: dict[int, str] = {}
    for frame, picture in pictures.items():
        try:
            found = calibrations.of(picture.stem)
            projection, size = found.projection(number), picture_size(picture)
            key = (projection.tobytes(), found.rectified_from_lidar.tobytes(), size)
            if key not in cameras:
                cameras[key] = calibrated(projection, size, found.rectified_from_lidar, found.path)
            taken[frame] = key
        except RecordingError as error:
            problems[frame] = str(error)
    ranked = [key for key, _ in Counter(taken.values()).most_common()]
    names = {key: base if rank == 1 else f"{base}-{rank}" for rank, key in enumerate(ranked, 1)}
    frames = {frame: names[key] for frame, key in taken.items()}
    return Cameras({names[key]: cameras[key] for key in ranked}, frames, problems)
