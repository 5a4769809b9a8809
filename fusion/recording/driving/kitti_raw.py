"""KITTI raw drives (synced and rectified).

Layout and calibration: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013, and its development kit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig, rigid
from fusion.recording.content import check_task
from fusion.recording.driving.dataset import (
    Dataset,
    DatasetReader,
    Report,
    Sound,
    StoredReading,
    capture_order,
    load_picture,
    picture_size,
    read_file,
    refuse,
)
from fusion.recording.driving.kitti_files import (
    CAMERAS,
    EGO_FROM_LIDAR,
    LEFT,
    LICENCE,
    LIDAR,
    NOMINAL_HZ,
    PICTURES,
    calibrated,
    load_velodyne,
    matrix,
    nominal_ns,
    numbered_files,
    parse_numbers,
    rotation,
)
from fusion.recording.pictures.image_folder import LabelForm, read_boxes
from fusion.task import Task
from fusion.types import Float64Array, Modality, Truth, TruthObject

_SENSORS = {LIDAR: "velodyne_points"} | {name: f"image_{number:02d}" for number, name in enumerate(CAMERAS)}
_CLASSES = ("car", "pedestrian", "cyclist")
_LABELS = "labels_2d_yolo"
_CALIBRATION = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")
_UNREAD = {"oxts": "oxts (GPS and IMU)", "tracklet_labels.xml": "tracklet_labels.xml (3-D tracklets)"}


@dataclass(frozen=True, slots=True)
class _Series:
    """One sensor's files by frame number, and their times; `nominal` when the drive does not tell them."""

    sensor: str
    files: Mapping[int, Path]
    times_ns: Mapping[int, int]
    nominal: bool


class KittiRawReader(DatasetReader):
    """A `..._sync` folder with its day's calibration files beside it.

    Sensors are `velodyne` and those of `left-grey`, `right-grey`, `left`, `right` that have pictures. The ego frame is
    on the road under the LiDAR, axes as the LiDAR's. Times come from each sensor's `timestamps.txt`, read as UTC;
    without one, frame n is put at n / 10 s, and `info().notes["times"]` says that this is nominal. A frame that a
    sensor lacks is simply not there. `labels_2d_yolo/` (car, pedestrian, cyclist), where there is one, is truth of the
    left colour picture.
    """

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with `velodyne_points/data` or `image_0*/data` in it."""
        return any((path / folder / "data").is_dir() for folder in _SENSORS.values())

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a drive; raises `RecordingError` naming the file that is missing or wrong."""
        if split is not None:
            raise RecordingError(f"{path}: a KITTI raw drive has no splits; leave out '{split}'")
        problems: list[str] = []
        series = _find_series(path, problems.append if salvage else refuse)
        check_task(path, [one.sensor for one in series], task)
        return cls(_plan(path, series, tuple(problems)), salvage=salvage)


def _plan(drive: Path, series: Sequence[_Series], problems: tuple[str, ...]) -> Dataset:
    notes = {"source": f"KITTI raw {drive.name}", "licence": LICENCE}
    nominal = [one.sensor for one in series if one.nominal]
    if nominal:
        notes["times"] = f"nominal: {NOMINAL_HZ} Hz for {', '.join(nominal)}, the drive carries none"
    stored = (_stored(one, frame) for one in series for frame in one.files if frame in one.times_ns)
    left = next((one for one in series if one.sensor == LEFT), None)
    labels = _labels(drive, left) if left else {}
    named = sorted((one for one in series if one.sensor in (LIDAR, LEFT)), key=lambda one: one.sensor == LEFT)
    stamps = [drive / _SENSORS[one.sensor] / "timestamps.txt" for one in series if not one.nominal]
    cameras = [one for one in series if one.sensor != LIDAR]
    calibration = [drive.parent / name for name in _CALIBRATION] if cameras else []
    return Dataset(
        path=drive,
        format="kitti-raw",
        readings=capture_order(stored),
        loaders={one.sensor: load_velodyne if one.sensor == LIDAR else load_picture for one in series},
        sources={one.sensor: f"{_SENSORS[one.sensor]}/data" for one in series},
        rig=_read_rig(drive.parent, [one.sensor for one in cameras]),
        truth=lambda sound, report: _truth(labels, left, sound, report) if left else iter(()),
        truths=len(labels),
        notes=notes,
        side_files=(*calibration, *stamps, *labels.values()),
        unread=tuple(told for name, told in _UNREAD.items() if (drive / name).exists()),
        problems=problems,
        names={
            one.times_ns[frame]: path.stem
            for one in named
            for frame, path in one.files.items()
            if frame in one.times_ns
        },
    )


def _stored(series: _Series, frame: int) -> StoredReading:
    modality = Modality.LIDAR if series.sensor == LIDAR else Modality.CAMERA
    return StoredReading(series.times_ns[frame], series.sensor, modality, (series.files[frame],))


def _find_series(drive: Path, report: Report) -> list[_Series]:
    found = []
    for sensor, folder in _SENSORS.items():
        files = numbered_files(drive / folder / "data", *((".bin",) if sensor == LIDAR else PICTURES))
        if files:
            path = drive / folder / "timestamps.txt"
            nominal = not path.is_file()
            times = {frame: nominal_ns(frame) for frame in files} if nominal else _read_times(path, report)
            for frame in sorted(files.keys() - times.keys()):
                report(f"{files[frame]}: frame {frame} has no time in {folder}/timestamps.txt")
            found.append(_Series(sensor, files, times, nominal))
    if not found:
        raise RecordingError(f"{drive}: no velodyne_points/data/*.bin and no pictures image_0*/data/* in it")
    return found


def _read_times(path: Path, report: Report) -> dict[int, int]:
    """Nanoseconds since 1970 by frame, taking the file's clock as UTC; frames are counted by lines, from 0."""
    found: dict[int, int] = {}
    latest = -1
    for number, line in enumerate(read_file(path).decode("ascii", "replace").splitlines()):
        whole, _, fraction = line.strip().partition(".")
        if not whole:
            continue
        try:
            seconds = int(datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
            time_ns = seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
        except ValueError:
            report(f"{path}:{number + 1}: {line!r} is not a time")
            continue
        if time_ns < max(latest, 0):
            report(f"{path}:{number + 1}: {line!r} is before {'the line before it' if latest >= 0 else '1970'}")
            continue
        found[number] = latest = time_ns
    return found


def rectified_from_lidar(day: Path) -> Float64Array:
    """(4, 4), rectified meaning camera 0, of a day's calibration files. Raises `RecordingError`."""
    of_cameras, of_lidar = (day / name for name in _CALIBRATION)
    to_cameras, to_lidar = (parse_numbers(read_file(path)) for path in (of_cameras, of_lidar))
    camera0_from_lidar = rigid(rotation(to_lidar, "R", of_lidar), matrix(to_lidar, "T", (3,), of_lidar))
    return rigid(rotation(to_cameras, "R_rect_00", of_cameras), np.zeros(3)) @ camera0_from_lidar


def _read_rig(day: Path, cameras: Sequence[str]) -> Rig:
    """The rig of a day's calibration files: the LiDAR and those `cameras`."""
    if not cameras:
        return Rig({}, {LIDAR: EGO_FROM_LIDAR})
    of_cameras = day / _CALIBRATION[0]
    to_cameras, rectified = parse_numbers(read_file(of_cameras)), rectified_from_lidar(day)
    found = {}
    for name in cameras:
        number = f"{CAMERAS.index(name):02d}"
        projection = matrix(to_cameras, f"P_rect_{number}", (3, 4), of_cameras)
        width, height = (int(v) for v in matrix(to_cameras, f"S_rect_{number}", (2,), of_cameras))
        found[name] = calibrated(projection, (width, height), rectified, of_cameras)
    return Rig(found, {LIDAR: EGO_FROM_LIDAR})


def _labels(drive: Path, left: _Series) -> dict[int, Path]:
    """Label files by frame, of those left pictures that are there."""
    found = numbered_files(drive / _LABELS, ".txt")
    return {frame: path for frame, path in found.items() if frame in left.files and frame in left.times_ns}


def _truth(labels: Mapping[int, Path], left: _Series, sound: Sound, report: Report) -> Iterator[Truth]:
    for frame, path in labels.items():
        if not sound(left.files[frame]):
            continue
        try:
            boxes = list(read_boxes(path, LabelForm.YOLO, len(_CLASSES), *picture_size(left.files[frame])))
        except RecordingError as error:
            report(str(error))
            continue
        objects = (TruthObject(i, _CLASSES[b.class_index], box2d=b.box) for i, b in enumerate(boxes, 1))
        yield Truth(left.times_ns[frame], tuple(objects))
