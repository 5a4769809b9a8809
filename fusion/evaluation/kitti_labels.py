"""KITTI object labels and detections: the text files of the benchmark, one a frame, as arrays.

Format: the object development kit's readme (Geiger, Lenz, Urtasun, CVPR 2012). A line is class, truncation, occlusion,
alpha, image box (4), height width length, x y z, rotation_y, and for a detection the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError, RecordingError
from fusion.types import Float64Array

DONT_CARE = "DontCare"
NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", DONT_CARE)
_BY_LOWER_CASE = {name.lower(): name for name in NAMES}
_LABEL_COLUMNS = 15


@dataclass(frozen=True, slots=True, eq=False)
class KittiObjects:
    """N labelled or detected objects of one frame (or, joined, of many).

    `names` (N,) of `NAMES`; `truncated` (N,) 0..1 and `occluded` (N,) 0..3, -1 where not told; `alpha` (N,) observation
    angle in radians, -10 where not told; `image_boxes` (N, 4) x1 y1 x2 y2 in pixels; `dimensions` (N, 3) height, width,
    length in metres, -1 where there is no box in space; `locations` (N, 3) the centre of the bottom face in the
    rectified camera frame (x right, y down, z forward, metres); `rotation_y` (N,) radians; `scores` (N,), of labels
    zeros. Raises `InputError` for other shapes and class names and for numbers that are not finite.
    """

    names: NDArray[np.str_]
    truncated: Float64Array
    occluded: Float64Array
    alpha: Float64Array
    image_boxes: Float64Array
    dimensions: Float64Array
    locations: Float64Array
    rotation_y: Float64Array
    scores: Float64Array

    def __post_init__(self) -> None:
        widths = {"image_boxes": (4,), "dimensions": (3,), "locations": (3,)}
        for column in fields(self):
            shape = np.shape(getattr(self, column.name))
            if shape != (len(self.names), *widths.get(column.name, ())):
                raise InputError(f"{column.name} of {len(self.names)} KITTI objects has shape {shape}")
            if column.name != "names" and not np.isfinite(getattr(self, column.name)).all():
                raise InputError(f"{column.name} of KITTI objects holds a number that is not finite")
        unknown = set(self.names.tolist()) - set(NAMES)
        if unknown:
            raise InputError(f"{min(unknown)!r} is none of KITTI's classes: {', '.join(NAMES)}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_rows(cls, names: Sequence[str], rows: Sequence[Sequence[float]]) -> Self:
        """Objects of class names (N) and the 14 numbers that follow them in a label line, or 15 with the score."""
        table = np.array(rows, np.float64).reshape(len(names), -1 if names else _LABEL_COLUMNS)
        if table.shape[1] == _LABEL_COLUMNS - 1:
            table = np.pad(table, ((0, 0), (0, 1)))
        truncated, occluded, alpha, turn, score = table[:, [0, 1, 2, 13, 14]].T
        boxes, sizes, places = table[:, 3:7], table[:, 7:10], table[:, 10:13]
        return cls(np.array(names, np.str_), truncated, occluded, alpha, boxes, sizes, places, turn, score)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All objects of `parts`, in their order."""
        if not parts:
            return cls.from_rows([], [])
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def upright_boxes(self, rows: NDArray[np.integer]) -> Float64Array:
        """Boxes (R, 7) of `rows` (R,) as `rotated_iou` takes them, in axes x right, y forward, z up at the camera."""
        height, width, length = self.dimensions[rows].T
        x, y, z = self.locations[rows].T
        return np.stack([x, z, height / 2 - y, length, width, height, -self.rotation_y[rows]], 1)


def read_kitti_labels(path: Path, *, scored: bool) -> KittiObjects:
    """The objects of one file: `scored` detections (16 columns) or labels (15).

    An empty file is a frame without objects. Raises `RecordingError` naming file and line.
    """
    try:
        text = path.read_bytes().decode("ascii")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: byte {error.start} is no plain text") from error
    names, rows = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                name, values = _object(line, scored=scored)
            except ValueError as error:
                raise RecordingError(f"{path}:{number}: {error}") from error
            names.append(name)
            rows.append(values)
    return KittiObjects.from_rows(names, rows)


def read_kitti_folders(
    truth: Path, detections: Path, frames: Sequence[str] | None = None
) -> tuple[list[KittiObjects], list[KittiObjects]]:
    """Labels and detections, frame by frame, of two folders of `FRAME.txt`.

    `frames` names those to take (a validation split); without it both folders must hold the same frames, because a
    detector that saw nothing writes an empty file, and a missing one is a mistake. Raises `RecordingError` naming it.
    """
    in_truth, in_detections = _frames(truth), _frames(detections)
    if frames is None:
        frames = sorted(in_truth | in_detections)
    if not frames:
        raise RecordingError(f"{truth}: no label file (FRAME.txt)")
    for folder, there in ((truth, in_truth), (detections, in_detections)):
        missing = [frame for frame in frames if frame not in there]
        if missing:
            raise RecordingError(
                f"{folder}: {missing[0]}.txt is missing ({len(missing)} of {len(frames)} frames are); an empty file "
                "says that a frame has no objects, a list of frames (--frames) which ones count"
            )
    return (
        [read_kitti_labels(truth / f"{frame}.txt", scored=False) for frame in frames],
        [read_kitti_labels(detections / f"{frame}.txt", scored=True) for frame in frames],
    )


def _frames(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise RecordingError(f"{folder}: not a folder; KITTI keeps a folder of one text file a frame")
    return {path.stem for path in folder.glob("*.txt")}


def _object(line: str, *, scored: bool) -> tuple[str, list[float]]:
    """Class and numbers of a line. Raises `ValueError` saying what is wrong with it."""
    words = line.split()
    columns = _LABEL_COLUMNS + scored
    if len(words) != columns:
        kind = "a detection, its score last," if scored else "a label"
        raise ValueError(f"{len(words)} columns where {kind} has {columns}")
    name = _BY_LOWER_CASE.get(words[0].lower())
    if name is None:
        raise ValueError(f"{words[0]!r} is none of KITTI's classes: {', '.join(NAMES)}")
    values = [float(word) for word in words[1:]]
    if not all(map(isfinite, values)):
        raise ValueError("holds a number that is not finite")
    if values[5] < values[3] or values[6] < values[4]:
        raise ValueError(f"image box {' '.join(words[4:8])} ends before it begins (left top right bottom)")
    return name, values
