"""A rig as Foxglove calibration and transform messages, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration as CalibrationMessage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform

from fusion.errors import InputError
from fusion.geometry import CameraCalibration, Rig, invert
from fusion.recording.base import EgoPose
from fusion.recording.native.pose import matrix, quaternion, vector
from fusion.recording.native.schemas import EGO, MAP, stamp, time_of
from fusion.types import Float64Array

_MODELS = {"": 0, "plumb_bob": 5, "rational_polynomial": 8}
_EGO_NAMES = (EGO, "base_link")
_DEEPEST = 64


def calibration_message(name: str, camera: CameraCalibration, time_ns: int) -> Any:
    """Intrinsics of the camera whose optical frame is called `name`."""
    model = "rational_polynomial" if camera.distortion.size == 8 else "plumb_bob"
    coefficients = np.pad(camera.distortion, (0, _MODELS[model] - camera.distortion.size))
    return CalibrationMessage(
        timestamp=stamp(time_ns),
        frame_id=name,
        width=camera.width,
        height=camera.height,
        distortion_model=model,
        D=coefficients.tolist(),
        K=camera.k.ravel().tolist(),
        R=np.eye(3).ravel().tolist(),
        P=np.hstack([camera.k, np.zeros((3, 1))]).ravel().tolist(),
    )


def transform_messages(rig: Rig, time_ns: int) -> Iterator[Any]:
    """`ego` from each sensor's frame, cameras first."""
    frames = {name: camera.ego_from_camera for name, camera in rig.cameras.items()} | dict(rig.ego_from_lidar)
    for name, ego_from_sensor in frames.items():
        yield FrameTransform(
            timestamp=stamp(time_ns),
            parent_frame_id=EGO,
            child_frame_id=name,
            translation=vector(ego_from_sensor[:3, 3]),
            rotation=quaternion(ego_from_sensor[:3, :3]),
        )


def pose_message(pose: EgoPose) -> Any:
    """The ego frame in the map frame."""
    return FrameTransform(
        timestamp=stamp(pose.time_ns),
        parent_frame_id=MAP,
        child_frame_id=EGO,
        translation=vector(pose.map_from_ego[:3, 3]),
        rotation=quaternion(pose.map_from_ego[:3, :3]),
    )


def read_pose(message: Any, log_time_ns: int) -> EgoPose | None:
    """The pose that a transform tells; None for one of another frame. Raises `InputError`."""
    if (message.parent_frame_id, message.child_frame_id) != (MAP, EGO):
        return None
    return EgoPose(time_of(message, log_time_ns), matrix(message.translation, message.rotation))


def read_calibration(message: Any, ego_from_camera: Float64Array) -> CameraCalibration:
    """The typed calibration; raises `InputError` for a lens model or numbers that cannot be used."""
    wanted = _MODELS.get(message.distortion_model)
    if wanted is None:
        raise InputError(f"lens model {message.distortion_model!r}; known: plumb_bob, rational_polynomial")
    if len(message.K) != 9 or not message.K[0] > 0 or not message.width or not message.height:
        raise InputError(f"intrinsics of {len(message.K)} numbers for {message.width}x{message.height} pixels")
    coefficients = np.array(message.D, np.float64)
    if not np.isfinite(coefficients).all():
        raise InputError("lens coefficients that are not finite")
    if not coefficients.any():
        coefficients = np.zeros(0)
    k = np.array(message.K, np.float64).reshape(3, 3)
    return CameraCalibration(message.width, message.height, k, coefficients, ego_from_camera)


@dataclass(slots=True)
class FrameTree:
    """Coordinate frames by name: parent and `parent_from_child` (4, 4). What is said first of a frame counts."""

    parents: dict[str, tuple[str, Float64Array]] = field(default_factory=dict)

    def add(self, message: Any) -> None:
        """Take a `FrameTransform`; raises `InputError` for numbers that cannot be used."""
        if message.child_frame_id not in self.parents:
            placed = matrix(message.translation, message.rotation)
            self.parents[message.child_frame_id] = (message.parent_frame_id, placed)

    def names(self) -> frozenset[str]:
        """Every frame that is placed, or that another is placed in."""
        return frozenset(self.parents) | {parent for parent, _ in self.parents.values()}

    def between(self, base: str, frame: str) -> Float64Array | None:
        """`base_from_frame` (4, 4); None when no transforms lead from one to the other."""
        root, root_from_frame = self._root(frame)
        other, root_from_base = self._root(base)
        return invert(root_from_base) @ root_from_frame if root == other else None

    def root(self, frame: str) -> str:
        """The frame that `frame` is placed in at last. Raises `InputError` where the transforms go in a circle."""
        return self._root(frame)[0]

    def ego_from(self, frame: str) -> Float64Array | None:
        """`ego_from_frame` (4, 4), the ego frame being `ego`, `base_link` or the frame's root; None if unconnected."""
        root, root_from_frame = self._root(frame)
        if root == frame and frame not in _EGO_NAMES:
            return None
        for ego in _EGO_NAMES:
            reached, ego_from_frame = self._root(frame, until=ego)
            if reached == ego:
                return ego_from_frame
            other_root, root_from_ego = self._root(ego)
            if other_root == root and (ego in self.parents or ego == root):
                return invert(root_from_ego) @ root_from_frame
        return root_from_frame

    def _root(self, frame: str, until: str = "") -> tuple[str, Float64Array]:
        """Where going up ends, at a frame without parent or at `until`, and its transform from `frame`."""
        root_from_frame = np.eye(4)
        for _ in range(_DEEPEST):
            if frame not in self.parents or frame == until:
                return frame, root_from_frame
            frame, step = self.parents[frame]
            root_from_frame = step @ root_from_frame
        raise InputError(f"the transforms of frame {frame!r} go round in a circle")
