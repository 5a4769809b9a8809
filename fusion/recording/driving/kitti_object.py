"""KITTI object detection folders: pictures, scans, calibration and labels of frames that are independent.

Layout: the object development kit's readme (Geiger, Lenz, Urtasun, "Are we ready for Autonomous Driving?", CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.content import check_task
from fusion.recording.driving.dataset import (
    Dataset,
    DatasetReader,
    Report,
    Sound,
    capture_order,
    load_picture,
    read_file,
    refuse,
)
from fusion.recording.driving.kitti_files import (
    EGO_FROM_LIDAR,
    LICENCE,
    LIDAR,
    NOMINAL_HZ,
    load_velodyne,
    nominal_ns,
)
from fusion.recording.driving.kitti_frames import ObjectFrames
from fusion.recording.driving.kitti_labels import read_labels
from fusion.task import Task
from fusion.types import Truth

_PARTS = ("training", "testing")
_LISTS = "ImageSets"
_LONGEST_LINE = 80


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A folder of frames, and which of them are asked for (None: all); `split` is what they are called together."""

    folder: Path
    frames: Mapping[int, str] | None
    split: str


class KittiObjectReader(DatasetReader):
    """The data set's root, or its `training` or `testing` folder: `image_2`, `velodyne`, `calib`, `label_2`.

    A split is `training` (the default where there is one), `testing`, or the name of a list of frames
    `ImageSets/NAME.txt`. Frames are independent and carry no time: frame n is put at n / 10 s, which
    `info().notes["times"]` says, and `continuous` is False.

    Sensors are `velodyne`, `left` (`image_2`), and `right` (`image_3`) where there is one. Every frame has a
    calibration of its own, in fact one a day of recording; a rig has one a sensor. So `left` is the camera of the
    commonest calibration and picture size in the folder, and pictures of others are of cameras `left-2`, `left-3`...:
    every picture has the calibration it was taken with. The ego frame is on the road under the LiDAR with the LiDAR's
    axes. Truth (`label_2`) is of the left picture; its tracks number all objects of the split.
    """

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder, or a `training` or `testing` in it, with pictures or scans beside calibration or labels."""
        return any(_holds_frames(folder) for folder in (path, *(path / part for part in _PARTS)))

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a split; raises `RecordingError` naming the file that is missing or wrong."""
        problems: list[str] = []
        dataset = _plan(_choose(path, split), problems, problems.append if salvage else refuse)
        check_task(path, dataset.sources, task)
        return cls(dataset, salvage=salvage)


def _holds_frames(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("image_2", LIDAR)) and any(
        (folder / name).is_dir() for name in ("calib", "label_2")
    )


def _choose(path: Path, split: str | None) -> _Chosen:
    if _holds_frames(path):
        root, parts = path.parent, {path.name: path}
    else:
        root, parts = path, {part: path / part for part in _PARTS if _holds_frames(path / part)}
    split = split or next(iter(parts))
    if split in parts:
        return _Chosen(parts[split], None, split)
    listing = root / _LISTS / f"{split}.txt"
    if not listing.is_file():
        known = [*parts, *sorted(entry.stem for entry in (root / _LISTS).glob("*.txt"))]
        raise RecordingError(f"{path}: no split '{split}' in it; there are: {', '.join(known)}")
    part = "testing" if split == "test" else "training"
    return _Chosen(parts.get(part, next(iter(parts.values()))), _read_list(listing), split)


def _read_list(path: Path) -> dict[int, str]:
    """Where each frame of a list stands in it, as file and line."""
    found = {}
    for number, line in enumerate(read_file(path).decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            if not (line.strip().isdecimal() and line.isascii() and len(line) < _LONGEST_LINE):
                raise RecordingError(f"{path}:{number}: {line!r} is not a frame number")
            found[int(line)] = f"{path}:{number}"
    return found


def _plan(chosen: _Chosen, problems: list[str], report: Report) -> Dataset:
    frames = ObjectFrames(chosen.folder, chosen.frames)
    for problem in frames.problems():
        report(problem)
    stored = frames.stored()
    used = {one.sensor for one in stored}
    labels = frames.labels()
    notes = {
        "source": f"KITTI object {chosen.split}",
        "licence": LICENCE,
        "times": f"nominal: frame n at n / {NOMINAL_HZ} s; frames are independent and carry no time",
    }
    calibrated = {name: camera for name, camera in frames.calibrated().items() if name in used}
    sources = {name: source for name, source in frames.sources().items() if name in used}
    if len(sources) > len(set(sources.values())):
        notes["cameras"] = f"frames have several calibrations, each a camera of its own: {', '.join(calibrated)}"
    return Dataset(
        path=chosen.folder,
        format="kitti-object",
        readings=capture_order(stored),
        loaders={name: load_velodyne if name == LIDAR else load_picture for name in used},
        sources=sources,
        rig=Rig(calibrated, {LIDAR: EGO_FROM_LIDAR}),
        truth=lambda sound, report: _truth(labels, frames, sound, report),
        truths=len(labels),
        notes=notes,
        side_files=(*frames.calibration_files(), *labels.values()),
        problems=tuple(problems),
        continuous=False,
        names={one.time_ns: one.files[0].stem for one in stored},
    )


def _truth(labels: Mapping[int, Path], frames: ObjectFrames, sound: Sound, report: Report) -> Iterator[Truth]:
    track = 1
    for frame, path in labels.items():
        picture = frames.labelled_picture(frame)
        if picture is not None and not sound(picture):
            continue
        try:
            objects = tuple(read_labels(path, frames.calibrations.of(path.stem).ego_from_rectified, track))
        except RecordingError as error:
            report(str(error))
            continue
        track += len(objects)
        yield Truth(nominal_ns(frame), objects)
