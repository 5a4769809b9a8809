"""Camera and LiDAR pairs of the OpenCalib toolbox (repository PJLab-ADG/SensorsCalibration, `lidar2camera`).

A folder of `calib.pcd`, a picture `calib.jpg` or `.png`, and `calib.txt`:

    K: nine intrinsics by row    D: lens terms, plumb bob    T: camera from LiDAR, 3x4 by row
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.geometry import CameraCalibration, Rig, invert
from fusion.preparation import decode_image, read_header
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.content import check_request, content_of
from fusion.recording.points.pcd_reader import SENSOR as LIDAR
from fusion.recording.points.pcd_reader import PcdReader
from fusion.task import Task
from fusion.types import Float64Array, Modality, Reading, Truth

CAMERA = "camera"
_PICTURES = ("calib.jpg", "calib.jpeg", "calib.png")
_SIZES: Mapping[str, tuple[int, ...]] = {"K": (9,), "D": (0, 4, 5, 8), "T": (12,)}


class OpenCalibReader:
    """Reads one pair: a sweep and the picture of the same moment, which check a calibration by eye.

    The picture has no time of its own: it gets the sweep's, and `info().notes["times"]` says so. The ego frame is the
    LiDAR's. Cursor 1 is the sweep, 2 the picture.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._picture = _picture_of(folder) or folder / _PICTURES[0]
        self._sweeps = PcdReader.open(folder / "calib.pcd", None, None, salvage=False)
        self._numbers = _read_numbers(folder / "calib.txt")

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with the three files."""
        return all((path / name).is_file() for name in ("calib.pcd", "calib.txt")) and _picture_of(path) is not None

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open `path`; raises `RecordingError` where its calibration or the header of its points is malformed."""
        del salvage  # three files that stand for themselves
        check_request(path, "a calibration pair", {LIDAR, CAMERA}, task, split)
        return cls(path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder

    @cached_property
    def _rig(self) -> Rig:
        camera_from_lidar = np.vstack([self._numbers["T"].reshape(3, 4), [0, 0, 0, 1]])
        rotation = camera_from_lidar[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise RecordingError(f"{self._folder / 'calib.txt'}: T does not begin with a rotation")
        try:
            header = read_header(self._encoded())
        except InputError as error:
            raise RecordingError(f"{self._picture}: {error}") from None
        k, distortion = self._numbers["K"].reshape(3, 3), self._numbers["D"]
        camera = CameraCalibration(header.width, header.height, k, distortion, invert(camera_from_lidar))
        return Rig({CAMERA: camera}, {LIDAR: np.eye(4)})

    def info(self) -> RecordingInfo:
        """What the pair holds."""
        sweeps = self._sweeps.info()
        time_ns = sweeps.sensors[LIDAR].first_ns
        digest, size = content_of(self._folder, [self._sweeps.path, self._folder / "calib.txt", self._picture])
        camera = SensorInfo.of_times(Modality.CAMERA, self._picture.name, [time_ns])
        times = sweeps.notes.get("times", "nominal: the picture has none and gets the sweep's")
        return RecordingInfo(
            path=self._folder,
            format="opencalib",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors={CAMERA: camera, LIDAR: sweeps.sensors[LIDAR]},
            rig=self._rig,
            truths=0,
            notes={**sweeps.notes, "frames": "ego is the LiDAR's frame", "times": times},
            continuous=False,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the picture's and the points' files."""
        return {CAMERA: self._picture.stat().st_size, **self._sweeps.sizes()}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The sweep, then the picture."""
        time_ns = self._sweeps.times_ns[0]
        if start_cursor < 1:
            yield from self._sweeps.readings()
        if start_cursor < 2:
            try:
                image = decode_image(self._encoded())
            except InputError as error:
                raise RecordingError(f"{self._picture}: {error}") from None
            yield 2, Reading(CAMERA, Modality.CAMERA, time_ns, image)

    def truth(self) -> Iterator[Truth]:
        """Nothing: the pair carries no truth."""
        return iter(())

    def _encoded(self) -> bytes:
        try:
            return self._picture.read_bytes()
        except OSError as error:
            raise RecordingError(f"{self._picture}: cannot be read ({error.strerror})") from None


def _picture_of(folder: Path) -> Path | None:
    return next((folder / name for name in _PICTURES if (folder / name).is_file()), None)


def _read_numbers(path: Path) -> dict[str, Float64Array]:
    """The three lines; raises `RecordingError` naming the one that is missing or wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None
    found: dict[str, Float64Array] = {}
    for number, line in enumerate(lines, 1):
        key, _, rest = line.partition(":")
        if key.strip() not in _SIZES:
            continue
        try:
            values = np.array([float(word) for word in rest.split()], np.float64)
        except ValueError as error:
            raise RecordingError(f"{path}:{number}: {error}") from None
        if values.size not in _SIZES[key.strip()] or not np.isfinite(values).all():
            sizes = " or ".join(map(str, _SIZES[key.strip()]))
            raise RecordingError(f"{path}:{number}: {values.size} numbers, where {sizes} finite ones belong")
        found[key.strip()] = values
    missing = [key for key in _SIZES if key not in found]
    if missing:
        raise RecordingError(f"{path}: no line {', '.join(missing)} in it")
    return found
