"""What the forms of nuScenes have in common: sensors, scans, class names, and where files may be.

Source: Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020, and its public schema. The
ego frame is the data set's own: on the ground under the middle of the rear axle, x forward, y left, z up. So is the
LiDAR's frame (x to the right, y forward): `ego_from_lidar` turns it, points are left as they are stored.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion

from fusion.errors import InputError, RecordingError
from fusion.geometry import CameraCalibration, rigid
from fusion.recording.driving.dataset import Report
from fusion.recording.driving.json_node import Node
from fusion.recording.driving.scan_file import read_scan
from fusion.recording.native.pose import rotation
from fusion.types import Box3D, Float64Array, PointCloud

LICENCE = "CC BY-NC-SA 4.0 (nuScenes: non-commercial)"
LIDAR = "LIDAR_TOP"
RING = "ring of each LiDAR point"
OTHER = "other"
"""The label of an object that is of none of the detection task's ten classes, where its category is not told."""
_COLUMNS = 5
_FULL_INTENSITY = 255
_ROUNDING = 1e-3
_CLASSES = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic-cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction-vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}


def label_of(category: str) -> str:
    """The detection task's class of a category, with dashes; another category is its own class, with dashes too."""
    return _CLASSES.get(category, dashed(category))


def dashed(name: str) -> str:
    """`CAM_FRONT` as `cam-front`, `movable_object.debris` as `movable-object-debris`."""
    return name.lower().replace("_", "-").replace(".", "-")


def file_in(root: Path, name: Node) -> Path:
    """The file of that name, which must lie in `root`."""
    told = PurePosixPath(name.text())
    if told.is_absolute() or ".." in told.parts:
        raise RecordingError(f"{name.place}: {str(told)!r} is not a file in {root}")
    return root / told


def load_scan(files: tuple[Path, ...], report: Report) -> PointCloud:
    """A `.pcd.bin` scan: float32 x, y, z, intensity 0..255, ring. The ring is left out."""
    points, finite = read_scan(files[0], _COLUMNS, report)
    points = points[finite, :4].copy()
    points[:, 3] /= _FULL_INTENSITY
    return PointCloud(points)


def micros_ns(time: Node, *, in_seconds: bool = False) -> int:
    """A time in whole microseconds, or in seconds to the microsecond, as nanoseconds."""
    value = time.number()
    microseconds = round(value * 1e6) if in_seconds else int(time.value)
    if not 0 <= microseconds < 9e15:
        raise RecordingError(f"{time.place}: {value} is not a time since 1970")
    return microseconds * 1000


def transform_of(record: Node) -> Float64Array:
    """The (4, 4) transform of a record's `translation` and `rotation` (a quaternion w, x, y, z)."""
    w, x, y, z = (float(v) for v in record["rotation"].array(4))
    if abs(np.linalg.norm([w, x, y, z]) - 1) > _ROUNDING:
        raise RecordingError(f"{record.place}.rotation: not a quaternion of length 1")
    return rigid(rotation(Quaternion(x=x, y=y, z=z, w=w)), record["translation"].array(3))


def matrix_of(node: Node) -> Float64Array:
    """A rigid (4, 4) transform that is told as such."""
    told = node.array(4, 4)
    turn = told[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > _ROUNDING or np.linalg.det(turn) < 0:
        raise RecordingError(f"{node.place}: not a rigid transform")
    return told


def camera_of(intrinsics: Node, size: tuple[int, int], ego_from_camera: Float64Array) -> CameraCalibration:
    """The calibration of a camera whose pictures are free of distortion, `size` (width, height)."""
    k = intrinsics.array(3, 3)
    if not (k[0, 0] > 0 and k[1, 1] > 0):
        raise RecordingError(f"{intrinsics.place}: focal lengths {k[0, 0]:g} and {k[1, 1]:g}")
    try:
        return CameraCalibration(*size, k, np.zeros(0), ego_from_camera)
    except InputError as error:
        raise RecordingError(f"{intrinsics.place}: {error}") from None


def box_in_ego(ego_from_box: Float64Array, length: float, width: float, height: float) -> Box3D:
    """The box of that size at `ego_from_box` (4, 4): its centre, and where its x axis points, seen from above."""
    x, y, z = (float(v) for v in ego_from_box[:3, 3])
    return Box3D(x, y, z, length, width, height, float(np.arctan2(ego_from_box[1, 0], ego_from_box[0, 0])))


def velocity_in_ego(ego_from_frame: Float64Array, velocity: Float64Array) -> tuple[float, float] | None:
    """A velocity over ground (2,) or (3,) turned into the ego frame; None when it is not known (NaN)."""
    if not np.isfinite(velocity).all():
        return None
    turned = ego_from_frame[:3, :3] @ np.pad(velocity, (0, 3 - velocity.size))
    return float(turned[0]), float(turned[1])
