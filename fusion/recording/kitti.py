"""KITTI raw drives (synced and rectified), imported to a native recording.

Layout and calibration: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013, and its development kit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.geometry import CameraCalibration, Rig, invert, rigid
from fusion.preparation import decode_image
from fusion.recording.image_folder import LabelForm, read_boxes
from fusion.recording.mcap_writer import RecordingWriter
from fusion.types import Float64Array, Image, PointCloud, Truth, TruthObject

LIDAR = "velodyne"
CAMERAS = {"image_00": "left-grey", "image_01": "right-grey", "image_02": "left", "image_03": "right"}
LIDAR_HEIGHT_M = 1.73
"""Height of the LiDAR above the road, from the KITTI set-up; the ego frame lies on the road below it."""
NOMINAL_HZ = 10
_CLASSES = ("Car", "Pedestrian", "Cyclist")


@dataclass(slots=True)
class ImportSummary:
    """What was brought over; `str()` is one line."""

    path: Path
    frames: int = 0
    pictures: int = 0
    sweeps: int = 0
    points: int = 0
    boxes: int = 0
    nominal: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        times = f"; NOMINAL {NOMINAL_HZ} Hz times for {', '.join(self.nominal)}" if self.nominal else ""
        return (
            f"{self.path}: {self.frames} frames, {self.pictures} pictures, {self.sweeps} sweeps "
            f"({self.points} points), {self.boxes} 2-D boxes{times}"
        )


@dataclass(frozen=True, slots=True)
class _Series:
    """One sensor's files by frame number, and their times; `nominal` when the drive does not tell them."""

    sensor: str
    files: Mapping[int, Path]
    times_ns: Mapping[int, int]
    nominal: bool


def import_kitti_raw(drive: Path, out: Path) -> ImportSummary:
    """Write `drive` (a `..._sync` folder, its calibration beside it) as a native recording.

    The ego frame is on the road under the LiDAR, axes as the LiDAR's. Times come from each sensor's
    `timestamps.txt`; without one, frame n is put at n / 10 s, and recording and summary say that this is
    NOMINAL. `labels_2d_yolo/` (Car, Pedestrian, Cyclist), where there is one, becomes truth of the left colour
    picture. Raises `RecordingError` naming the file that is missing or wrong.
    """
    series = _find_series(drive)
    rig = read_rig(drive.parent, [s.sensor for s in series])
    summary = ImportSummary(out, nominal=[s.sensor for s in series if s.nominal])
    summary.frames = len({frame for s in series for frame in s.files})
    notes = {"source": f"KITTI raw {drive.name}", "licence": "CC BY-NC-SA 3.0"}
    if summary.nominal:
        notes["times"] = f"nominal: {NOMINAL_HZ} Hz for {', '.join(summary.nominal)}, the drive carries none"
    with RecordingWriter(out, rig, "driving", notes=notes) as writer:
        for time_ns, sensor, frame, path in _in_time_order(series):
            if sensor == LIDAR:
                cloud = read_velodyne(path)
                writer.lidar(sensor, time_ns, cloud)
                summary.sweeps += 1
                summary.points += len(cloud.points)
                continue
            image = _picture(path)
            writer.camera(sensor, time_ns, image)
            summary.pictures += 1
            labels = drive / "labels_2d_yolo" / f"{frame:010d}.txt"
            if sensor == CAMERAS["image_02"] and labels.is_file():
                truth = _truth(labels, time_ns, image)
                writer.truth(truth)
                summary.boxes += len(truth.objects)
    return summary


def read_velodyne(path: Path) -> PointCloud:
    """A `.bin` sweep: float32 x, y, z, reflectance 0..1. Raises `RecordingError` when the last point is cut short."""
    data = _bytes(path)
    if len(data) % 16:
        raise RecordingError(f"{path}: {len(data)} bytes are not a whole number of points of 16 bytes; it is cut short")
    return PointCloud(np.frombuffer(data, "<f4").reshape(-1, 4))


def read_rig(folder: Path, sensors: list[str]) -> Rig:
    """The rig of a day's calibration files, for those of the sensors that are calibrated there."""
    to_cameras = _numbers(folder / "calib_cam_to_cam.txt")
    to_lidar = _numbers(folder / "calib_velo_to_cam.txt")
    source = folder / "calib_velo_to_cam.txt"
    camera0_from_lidar = rigid(_matrix(to_lidar, "R", (3, 3), source), _matrix(to_lidar, "T", (3,), source))
    source = folder / "calib_cam_to_cam.txt"
    rectified_from_camera0 = rigid(_matrix(to_cameras, "R_rect_00", (3, 3), source), np.zeros(3))
    ego_from_lidar = rigid(np.eye(3), np.array([0.0, 0.0, LIDAR_HEIGHT_M]))
    cameras = {}
    for image, name in CAMERAS.items():
        if name in sensors:
            number = image[-2:]
            projection = _matrix(to_cameras, f"P_rect_{number}", (3, 4), source)
            width, height = (int(v) for v in _matrix(to_cameras, f"S_rect_{number}", (2,), source))
            k = projection[:, :3]
            # P = K [I | t]: t is where the rectified camera 0 lies in this camera's frame.
            offset = np.asarray(np.linalg.solve(k, projection[:, 3]), np.float64)
            camera_from_rectified = rigid(np.eye(3), offset)
            camera_from_lidar = camera_from_rectified @ rectified_from_camera0 @ camera0_from_lidar
            ego_from_camera = ego_from_lidar @ invert(camera_from_lidar)
            cameras[name] = CameraCalibration(width, height, k, np.zeros(0), ego_from_camera)
    return Rig(cameras, {LIDAR: ego_from_lidar})


def _find_series(drive: Path) -> list[_Series]:
    if not drive.is_dir():
        raise RecordingError(f"{drive}: no such folder; give a KITTI raw drive, such as 2011_09_26_drive_0052_sync")
    folders = {"velodyne_points": (LIDAR, ".bin")} | {folder: (name, ".png") for folder, name in CAMERAS.items()}
    found = []
    for folder, (sensor, suffix) in folders.items():
        files = {_frame(path): path for path in sorted((drive / folder / "data").glob(f"*{suffix}"))}
        if files:
            times = _times(drive / folder / "timestamps.txt")
            nominal = times is None
            if times is None:
                times = {frame: frame * 1_000_000_000 // NOMINAL_HZ for frame in files}
            found.append(_Series(sensor, files, times, nominal))
    if not found:
        raise RecordingError(f"{drive}: no velodyne_points/data/*.bin and no image_0*/data/*.png in it")
    return found


def _in_time_order(series: list[_Series]) -> Iterator[tuple[int, str, int, Path]]:
    events = []
    for one in series:
        for frame, path in one.files.items():
            if frame not in one.times_ns:
                raise RecordingError(f"{path}: frame {frame} has no line in timestamps.txt")
            events.append((one.times_ns[frame], one.sensor, frame, path))
    # At equal times the sweep comes first, as KITTI's cameras are triggered when it passes forward.
    return iter(sorted(events, key=lambda event: (event[0], event[1] != LIDAR, event[1])))


def _frame(path: Path) -> int:
    if not path.stem.isdecimal():
        raise RecordingError(f"{path}: the name is not a frame number")
    return int(path.stem)


def _times(path: Path) -> dict[int, int] | None:
    """Nanoseconds since 1970 by frame, taking the file's clock as UTC; None when there is no file."""
    if not path.is_file():
        return None
    found = {}
    for number, line in enumerate(_bytes(path).decode("ascii", "replace").splitlines()):
        whole, _, fraction = line.strip().partition(".")
        if not whole:
            continue
        try:
            seconds = int(datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
            found[number] = seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
        except ValueError:
            raise RecordingError(f"{path}:{number + 1}: {line!r} is not a time") from None
    return found


def _numbers(path: Path) -> dict[str, list[float]]:
    found = {}
    for line in _bytes(path).decode("utf-8", "replace").splitlines():
        key, _, rest = line.partition(":")
        try:
            found[key.strip()] = [float(word) for word in rest.split()]
        except ValueError:
            continue  # the line with the date
    return found


def _matrix(numbers: Mapping[str, list[float]], key: str, shape: tuple[int, ...], path: Path) -> Float64Array:
    values = np.array(numbers.get(key, []), np.float64)
    if values.size != np.prod(shape) or not np.isfinite(values).all():
        raise RecordingError(f"{path}: '{key}' is missing or is not {int(np.prod(shape))} numbers")
    return values.reshape(shape)


def _picture(path: Path) -> Image:
    try:
        return decode_image(_bytes(path))
    except RecordingError:
        raise
    except InputError as error:
        raise RecordingError(f"{path}: {error}") from None


def _truth(path: Path, time_ns: int, image: Image) -> Truth:
    height, width = image.pixels.shape[:2]
    boxes = read_boxes(path, LabelForm.YOLO, len(_CLASSES), width, height)
    objects = (TruthObject(i, _CLASSES[b.class_index].lower(), box2d=b.box) for i, b in enumerate(boxes, 1))
    return Truth(time_ns, tuple(objects))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
