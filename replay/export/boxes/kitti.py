"""KITTI's result files: `kitti/RECORDING/data/FRAME.txt`, a line a detection, in the picture and in space.

Beside them `frames.txt` (frames with truth) and `label_2/` (that truth); where the recording is not KITTI's own,
`calib/` to place the boxes by, and `frames.csv`, which says what each frame is.
Format: the object development kit's readme (Geiger, Lenz, Urtasun, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.evaluation.kitti_labels import DONT_CARE, NAMES
from fusion.geometry import CameraCalibration, apply, invert
from fusion.recording.base import RecordingReader
from fusion.recording.driving.kitti_calibration import CalibrationFolder
from fusion.recording.driving.kitti_files import EGO_FROM_LIDAR
from fusion.recording.driving.kitti_raw import rectified_from_lidar
from fusion.types import Box2D, Box3D, Float64Array, TruthObject
from replay.export.base import Exported, Openers, UnsuitedError
from replay.export.boxes.moments import Moments, first_camera, items_by_sample, sensor_time_ns
from replay.export.boxes.part_folder import part_folder
from replay.results.records import ItemResult, RecordingResults, RunResults, SampleResult

FOLDER = "kitti"
_OWN = ("kitti-object", "kitti-raw")
_NAMES = {name.lower().replace("_", "-"): name for name in NAMES}
_NOWHERE = "-1 -1 -1 -1000 -1000 -1000 -10"
_OCCLUDED = ((5 / 6, 0), (1 / 2, 1), (1 / 6, 2))
"""Least visible share of fully visible, partly and largely occluded; below, it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where boxes in space are told: `ego_from_rectified(FRAME)` (4, 4); None where nothing is calibrated."""

    ego_from_rectified: Callable[[str], Float64Array]
    camera: CameraCalibration | None = None
    """What a calibration file must be written of."""


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """A folder each recording. See `replay.export.base.Exporter`."""
    camera = first_camera(results.task)
    if not camera or not set(results.task.classes) & (_NAMES.keys() - {"dontcare"}):
        told = ", ".join(results.task.classes)
        raise UnsuitedError(f"task {results.task.name}: none of its classes ({told}) in a picture is one of KITTI's")
    folders = []
    for one in results.recordings:
        folder = out / FOLDER / one.name
        with part_folder(folder) as part:
            write_frames(one, opened[one.name](), camera, part)
        folders.append(folder)
    left_out = sorted(set(results.task.classes) - _NAMES.keys())
    notes = (f"without {', '.join(left_out)}, which KITTI does not know",) if left_out else ()
    return Exported(tuple(folders), notes)


def write_frames(one: RecordingResults, reader: RecordingReader, camera: str, folder: Path) -> None:
    """Fill `folder` with the files of one recording, of which a frame is a sample."""
    space, frames, items = space_of(reader, camera), dict(_frames(one, reader, camera)), items_by_sample(one)
    own = reader.info().format in _OWN
    for name in ("data", "label_2", *(["calib"] if space and space.camera else [])):
        (folder / name).mkdir()
    judged = []
    for frame, sample in frames.items():
        found = (line for item in items[sample.sequence] if (line := detection_line(item, frame, space)))
        _write_lines(folder / "data" / f"{frame}.txt", found)
        if sample.truths is not None:
            judged.append(frame)
            told = (line for thing in sample.truths if (line := label_line(thing, frame, space)))
            _write_lines(folder / "label_2" / f"{frame}.txt", told)
        if space and space.camera:
            _write_lines(folder / "calib" / f"{frame}.txt", calibration_lines(space.camera))
    _write_lines(folder / "frames.txt", judged)
    if not own:
        rows = (f"{frame},{s.sequence},{s.time_ns}" for frame, s in frames.items())
        _write_lines(folder / "frames.csv", ("frame,sequence,time_ns", *rows))


def space_of(reader: RecordingReader, camera: str) -> Space | None:
    """KITTI's own calibration files where the recording is KITTI's, else the camera's own axes."""
    info = reader.info()
    if info.format == "kitti-object":
        calibrations = CalibrationFolder(reader.path / "calib")
        return Space(lambda frame: calibrations.of(frame).ego_from_rectified)
    if info.format == "kitti-raw":
        of_day = EGO_FROM_LIDAR @ invert(rectified_from_lidar(reader.path.parent))
        return Space(lambda _: of_day)
    found = info.rig.cameras.get(camera) if info.rig else None
    return Space(lambda _: found.ego_from_camera, found) if found else None


def detection_line(item: ItemResult, frame: str, space: Space | None) -> str | None:
    """A detection with its score, None for a class that KITTI does not know."""
    name = _NAMES.get(item.label)
    if name is None or name == DONT_CARE:
        return None
    return f"{name} -1 -1 {_places(item.box, item.box3d, frame, space)} {item.score:.9g}"


def label_line(thing: TruthObject, frame: str, space: Space | None) -> str | None:
    """An object of the truth, None for a class that KITTI does not know or without a box in the picture."""
    name = _NAMES.get(thing.label)
    if name is None or thing.box2d is None:
        return None
    occluded = next((level for least, level in _OCCLUDED if thing.visibility > least), 3)
    return f"{name} -1 {occluded} {_places(thing.box2d, thing.box3d, frame, space)}"


def calibration_lines(camera: CameraCalibration) -> list[str]:
    """A calibration file for a camera of its own, whose optical frame is the rectified one; distortion is not told."""
    projection = np.hstack([camera.k, np.zeros((3, 1))])
    lidar = invert(camera.ego_from_camera) @ EGO_FROM_LIDAR
    numbers = {f"P{number}": projection for number in range(4)}
    numbers |= {"R0_rect": np.eye(3), "Tr_velo_to_cam": lidar[:3], "Tr_imu_to_velo": np.eye(4)[:3]}
    return [f"{key}: {' '.join(f'{v:.12e}' for v in np.ravel(values))}" for key, values in numbers.items()]


def rectified_box(box: Box3D, rectified_from_ego: Float64Array) -> tuple[float, ...]:
    """Height, width, length, x, y, z of the bottom face's centre and rotation_y, as KITTI tells a box."""
    x, y, z = apply(rectified_from_ego, np.array([[box.x, box.y, box.z]]))[0]
    heading = rectified_from_ego[:3, :3] @ np.array([np.cos(box.yaw), np.sin(box.yaw), 0.0])
    turn = float(np.arctan2(-heading[2], heading[0]))
    return box.height, box.width, box.length, float(x), float(y) + box.height / 2, float(z), turn


def _places(flat: Box2D, solid: Box3D | None, frame: str, space: Space | None) -> str:
    """Observation angle, box in the picture, box in space."""
    corners = f"{flat.x1:.4f} {flat.y1:.4f} {flat.x2:.4f} {flat.y2:.4f}"
    if solid is None or space is None:
        return f"-10 {corners} {_NOWHERE}"
    numbers = rectified_box(solid, invert(space.ego_from_rectified(frame)))
    x, z, turn = numbers[3], numbers[5], numbers[6]
    alpha = (turn - np.arctan2(x, z) + np.pi) % (2 * np.pi) - np.pi
    return f"{alpha:.6f} {corners} " + " ".join(f"{value:.6f}" for value in numbers)


def _frames(one: RecordingResults, reader: RecordingReader, camera: str) -> Iterator[tuple[str, SampleResult]]:
    """Each sample with its frame's name: KITTI's own, else its place in the run, from 0."""
    names = Moments.of(reader) if reader.info().format in _OWN else Moments([], [])
    for index, sample in enumerate(one.samples):
        yield names.nearest(sensor_time_ns(sample, camera)) or f"{index:06d}", sample


def _write_lines(path: Path, lines: Iterator[str] | list[str] | tuple[str, ...]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
