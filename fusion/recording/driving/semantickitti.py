"""KITTI odometry sequences, with SemanticKITTI's class of each point where there is one.

Layout: the odometry development kit's readme (Geiger, Lenz, Urtasun, CVPR 2012), and Behley et al., "SemanticKITTI: A
Dataset for Semantic Scene Understanding of LiDAR Sequences", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.content import check_task
from fusion.recording.driving.dataset import (
    Dataset,
    DatasetReader,
    Report,
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
    LIDAR,
    NOMINAL_HZ,
    PICTURES,
    calibrated,
    matrix,
    nominal_ns,
    numbered_files,
)
from fusion.recording.driving.kitti_odometry import CALIBRATION, POSES, TIMES, read_calibration, read_poses, read_times
from fusion.recording.driving.scan_file import read_scan
from fusion.task import Task
from fusion.types import Modality, PointCloud, UInt16Array

_LICENCE = "CC BY-NC-SA (KITTI, SemanticKITTI: non-commercial)"


class SemanticKittiReader(DatasetReader):
    """A folder `sequences/NN` with `velodyne/`, or the data set's root with the sequence's number as the split.

    Scan n and label file n go together: `PointCloud.labels` are SemanticKITTI's class numbers (the lower 16 bits of
    a label). Times come from `times.txt` (seconds from the sequence's start); without one, scan n is put at n / 10 s,
    and `info().notes["times"]` says that this is nominal. Pictures `image_0` to `image_3` are read where they are,
    and need `calib.txt`. `poses.txt` (which needs it too) tells where camera 0 was in its first frame; `poses` makes
    of it where the ego frame was. The ego frame is on the road under the LiDAR with the LiDAR's axes, and the map
    is the ego frame of scan 0.
    """

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with `velodyne/` in it and none of the object data set's folders, or one with such `sequences/`."""
        return _is_sequence(path) or bool(_sequences(path))

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a sequence; raises `RecordingError` naming the file that is missing or wrong."""
        problems: list[str] = []
        dataset = _plan(_choose(path, split), problems, problems.append if salvage else refuse)
        check_task(path, dataset.sources, task)
        return cls(dataset, salvage=salvage)


def _is_sequence(path: Path) -> bool:
    return (path / LIDAR).is_dir() and not any((path / name).is_dir() for name in ("calib", "label_2"))


def _sequences(path: Path) -> dict[str, Path]:
    return {entry.name: entry for entry in sorted((path / "sequences").glob("*")) if _is_sequence(entry)}


def _choose(path: Path, split: str | None) -> Path:
    found = {path.name: path} if _is_sequence(path) else _sequences(path)
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        asked = f"no sequence '{split}' in it" if split else "several sequences; give one as the split"
        raise RecordingError(f"{path}: {asked}; there are: {', '.join(found)}")
    return found[split]


def _plan(folder: Path, problems: list[str], report: Report) -> Dataset:
    scans = numbered_files(folder / LIDAR, ".bin")
    if not scans:
        raise RecordingError(f"{folder}: no velodyne/*.bin in it")
    labels = numbered_files(folder / "labels", ".label")
    pictures = {name: numbered_files(folder / f"image_{n}", *PICTURES) for n, name in enumerate(CAMERAS)}
    pictures = {name: found for name, found in pictures.items() if found}
    timed = (folder / TIMES).is_file()
    times = read_times(folder / TIMES, report) if timed else {f: nominal_ns(f) for f in _frames(scans, pictures)}
    poses = read_poses(folder, {frame: times[frame] for frame in scans if frame in times}, report)
    labelled = len(labels.keys() & scans.keys())
    notes = {"source": f"KITTI odometry sequence {folder.name}", "licence": _LICENCE}
    notes |= {} if timed else {"times": f"nominal: {NOMINAL_HZ} Hz, there is no {TIMES}"}
    notes |= {"labels": f"of {labelled} of {len(scans)} scans, numbers as in semantic-kitti.yaml"} if labelled else {}
    notes |= {"poses": f"{len(poses)} of the ego frame, the map being the ego frame of frame 0"} if poses else {}
    side_files = [folder / name for name in (CALIBRATION, TIMES, POSES) if (folder / name).is_file()]
    return Dataset(
        path=folder,
        format="semantickitti",
        readings=capture_order(_stored(scans, labels, pictures, times, report)),
        loaders={LIDAR: _load_labelled} | dict.fromkeys(pictures, load_picture),
        sources={LIDAR: LIDAR} | {name: f"image_{CAMERAS.index(name)}" for name in pictures},
        rig=_rig(folder, pictures),
        truth=lambda _sound, _report: iter(()),
        truths=0,
        notes=notes,
        side_files=tuple(side_files),
        unread=("instance number of each point (upper 16 bits of labels/)",) if labelled else (),
        problems=tuple(problems),
        poses=lambda: iter(poses),
    )


def _frames(scans: Mapping[int, Path], pictures: Mapping[str, Mapping[int, Path]]) -> set[int]:
    return scans.keys() | {frame for files in pictures.values() for frame in files}


def _stored(
    scans: Mapping[int, Path],
    labels: Mapping[int, Path],
    pictures: Mapping[str, Mapping[int, Path]],
    times_ns: Mapping[int, int],
    report: Report,
) -> Iterator[StoredReading]:
    found = [(LIDAR, Modality.LIDAR, n, (path, labels[n]) if n in labels else (path,)) for n, path in scans.items()]
    found += [(name, Modality.CAMERA, n, (path,)) for name, files in pictures.items() for n, path in files.items()]
    for sensor, modality, frame, paths in found:
        if frame in times_ns:
            yield StoredReading(times_ns[frame], sensor, modality, paths)
        else:
            report(f"{paths[0]}: frame {frame} has no time in {TIMES}")


def _rig(folder: Path, pictures: Mapping[str, Mapping[int, Path]]) -> Rig:
    if not pictures:
        return Rig({}, {LIDAR: EGO_FROM_LIDAR})
    numbers, camera0_from_lidar = read_calibration(folder)
    cameras = {}
    for name, files in pictures.items():
        projection = matrix(numbers, f"P{CAMERAS.index(name)}", (3, 4), folder / CALIBRATION)
        size = picture_size(next(iter(files.values())))
        cameras[name] = calibrated(projection, size, camera0_from_lidar, folder / CALIBRATION)
    return Rig(cameras, {LIDAR: EGO_FROM_LIDAR})


def _load_labelled(files: tuple[Path, ...], report: Report) -> PointCloud:
    """The scan of the first file, with the classes of the second one, if there is one."""
    points, finite = read_scan(files[0], 4, report)
    labels = _read_labels(files[1], len(points), report) if len(files) > 1 else None
    if finite.all():
        return PointCloud(points, labels=labels)
    return PointCloud(points[finite], labels=None if labels is None else labels[finite])


def _read_labels(path: Path, points: int, report: Report) -> UInt16Array | None:
    """The class numbers (`points`,); None where there are not as many, which is reported."""
    data = read_file(path)
    if len(data) != 4 * points:
        told = f"{len(data) / 4:g} labels of 4 bytes ({len(data)} bytes)"
        report(f"{path}: {told} for a scan of {points} points; salvaging leaves these labels out")
        return None
    return (np.frombuffer(data, "<u4") & 0xFFFF).astype(np.uint16)
