"""KITTI object labels as truth in the ego frame.

Format: the object development kit's readme (Geiger, Lenz, Urtasun, "Are we ready for Autonomous Driving?", CVPR 2012).
A line is class, truncation, occlusion, alpha, image box (4), height width length, x y z, rotation_y.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import apply
from fusion.recording.driving.dataset import read_file
from fusion.types import Box2D, Box3D, Float64Array, TruthObject

CLASSES = ("car", "van", "truck", "pedestrian", "person-sitting", "cyclist", "tram", "misc", "dontcare")
"""KITTI's class names in lower case, with dashes: `dontcare` marks regions in which nothing was labelled."""
_COLUMNS = 15
_SEEN = {0: 1.0, 1: 2 / 3, 2: 1 / 3}


def read_labels(path: Path, ego_from_rectified: Float64Array, first_track: int) -> Iterator[TruthObject]:
    """The objects of one label file, numbered from `first_track`.

    Boxes in space are placed by `ego_from_rectified` (4, 4), which takes points of the rectified frame of camera 0.
    There a box stands on its bottom face with y as its axis; here it has its centre and stands upright on z: the
    half degree between the two is left out. An object without a box in space has none. `visibility` is 1 less the
    truncated share, times 2/3 for partly and 1/3 for largely occluded objects; KITTI tells only these steps. Raises
    `RecordingError` naming file and line.
    """
    for number, line in enumerate(read_file(path).decode("utf-8", "replace").split("\n"), 1):
        if line.strip():
            try:
                yield _object(line.split(), ego_from_rectified, first_track)
            except ValueError as error:
                raise RecordingError(f"{path}:{number}: {error}") from None
            first_track += 1


def _object(words: list[str], ego_from_rectified: Float64Array, track: int) -> TruthObject:
    if len(words) != _COLUMNS:
        raise ValueError(f"{len(words)} columns where a label has {_COLUMNS}")
    label = words[0].lower().replace("_", "-")
    if label not in CLASSES:
        raise ValueError(f"{words[0]!r} is none of the classes {', '.join(CLASSES)}")
    numbers = np.array([float(word) for word in words[1:]])
    if not np.isfinite(numbers).all():
        raise ValueError("a number is not finite")
    truncated, occluded, box = numbers[0], numbers[1], Box2D(*(float(v) for v in numbers[3:7]))
    if box.x2 <= box.x1 or box.y2 <= box.y1:
        raise ValueError(f"the image box {' '.join(words[4:8])} is empty")
    seen = _SEEN.get(int(occluded), 1.0) * (1 - float(np.clip(truncated, 0, 1)))
    in_space = (numbers[7:10] > 0).all()
    box3d = _upright(numbers[7:14], ego_from_rectified) if in_space else None
    return TruthObject(track, label, box2d=box, box3d=box3d, visibility=seen)


def _upright(numbers: Float64Array, ego_from_rectified: Float64Array) -> Box3D:
    """The box of height, width, length, x, y, z (of the bottom face's centre) and rotation_y."""
    height, width, length, x, y, z, turn = (float(v) for v in numbers)
    place = apply(ego_from_rectified, np.array([[x, y - height / 2, z]]))[0]
    # rotation_y turns the box's length, which lies along x at 0, about the y axis that points down.
    heading = ego_from_rectified[:3, :3] @ np.array([np.cos(turn), 0.0, -np.sin(turn)])
    yaw = float(np.arctan2(heading[1], heading[0]))
    return Box3D(float(place[0]), float(place[1]), float(place[2]), length, width, height, yaw)
