"""The text files of a KITTI odometry sequence: calibration, times and poses.

Format: the odometry development kit's readme (Geiger, Lenz, Urtasun, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.errors import RecordingError
from fusion.geometry import invert
from fusion.recording.base import EgoPose
from fusion.recording.driving.dataset import Report, read_file
from fusion.recording.driving.kitti_files import EGO_FROM_LIDAR, affine, parse_numbers
from fusion.types import Float64Array

CALIBRATION, TIMES, POSES = "calib.txt", "times.txt", "poses.txt"
_LAST_S = 9e9


def read_calibration(folder: Path) -> tuple[dict[str, list[float]], Float64Array]:
    """The numbers of `calib.txt`, and of them where the LiDAR is for the rectified camera 0, (4, 4)."""
    path = folder / CALIBRATION
    if not path.is_file():
        raise RecordingError(f"{path}: no such file, but pictures and poses need it")
    numbers = parse_numbers(read_file(path))
    return numbers, affine(numbers, "Tr_velo_to_cam" if "Tr_velo_to_cam" in numbers else "Tr", path)


def read_times(path: Path, report: Report) -> dict[int, int]:
    """Nanoseconds from the sequence's start by frame, a line a frame."""
    found: dict[int, int] = {}
    latest = 0
    for number, line in enumerate(read_file(path).decode("ascii", "replace").splitlines()):
        if not line.strip():
            continue
        try:
            seconds = float(line)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < _LAST_S:
            report(f"{path}:{number + 1}: {line!r} is not a time in seconds from the start")
        elif round(seconds * 1e9) < latest:
            report(f"{path}:{number + 1}: {line!r} is before the line before it")
        else:
            found[number] = latest = round(seconds * 1e9)
    return found


def read_poses(folder: Path, times_ns: Mapping[int, int], report: Report) -> list[EgoPose]:
    """Where the ego frame was at the scans of those times; nothing where there is no `poses.txt`."""
    path = folder / POSES
    if not path.is_file():
        return []
    _, camera0_from_lidar = read_calibration(folder)
    camera0_from_ego = camera0_from_lidar @ invert(EGO_FROM_LIDAR)
    ego_from_camera0 = invert(camera0_from_ego)
    moved = _moved(path, report)
    for frame in sorted(times_ns.keys() - moved.keys()):
        report(f"{path}: no line {frame + 1}, for the scan of frame {frame}")
    return [
        EgoPose(time_ns, ego_from_camera0 @ moved[frame] @ camera0_from_ego)
        for frame, time_ns in times_ns.items()
        if frame in moved
    ]


def _moved(path: Path, report: Report) -> dict[int, Float64Array]:
    """Camera 0 of a frame in camera 0 of the first, (4, 4), by frame, a line of 12 numbers a frame."""
    found = {}
    for number, line in enumerate(read_file(path).decode("ascii", "replace").splitlines()):
        if not line.strip():
            continue
        try:
            found[number] = affine({"pose": [float(word) for word in line.split()]}, "pose", path)
        except (ValueError, RecordingError):
            report(f"{path}:{number + 1}: not the 12 numbers of a rigid transform")
    return found
