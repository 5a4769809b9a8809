"""Rigid transforms as Foxglove poses: a translation in metres and a unit quaternion."""

from __future__ import annotations

from typing import Any

import numpy as np
from foxglove_schemas_protobuf.Pose_pb2 import Pose
from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion
from foxglove_schemas_protobuf.Vector3_pb2 import Vector3

from fusion.errors import InputError
from fusion.geometry import rigid
from fusion.types import Float64Array


def quaternion(rotation: Float64Array) -> Any:
    """The unit quaternion of a (3, 3) rotation.

    The largest of the four parts is computed first, so that none is divided by a small number (Shepperd 1978).
    """
    trace = np.trace(rotation)
    part = np.array([*np.diag(rotation), trace])
    largest = int(np.argmax(part))
    q = np.empty(4)  # x y z w
    if largest == 3:
        q[3] = 1 + trace
        q[:3] = rotation[[2, 0, 1], [1, 2, 0]] - rotation[[1, 2, 0], [2, 0, 1]]
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q[i] = 1 + rotation[i, i] - rotation[j, j] - rotation[k, k]
        q[j], q[k] = rotation[j, i] + rotation[i, j], rotation[k, i] + rotation[i, k]
        q[3] = rotation[k, j] - rotation[j, k]
    q /= np.linalg.norm(q)
    return Quaternion(x=q[0], y=q[1], z=q[2], w=q[3])


def rotation(q: Any) -> Float64Array:
    """The (3, 3) rotation of a quaternion of any length; an unset one is no rotation. Raises `InputError`."""
    return unit_rotation(q.x, q.y, q.z, q.w) if q.ListFields() else np.eye(3)


def unit_rotation(x: float, y: float, z: float, w: float) -> Float64Array:
    """The (3, 3) rotation of the quaternion x, y, z, w of any length but 0. Raises `InputError`."""
    v = np.array([x, y, z, w], np.float64)
    length = float(np.linalg.norm(v))
    if not np.isfinite(length) or length < 1e-9:
        raise InputError(f"a rotation quaternion of length {length:g}")
    x, y, z, w = v / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def vector(values: Float64Array) -> Any:
    """Three numbers as a `Vector3`."""
    return Vector3(x=values[0], y=values[1], z=values[2])


def pose(transform: Float64Array) -> Any:
    """A rigid (4, 4) transform as a `Pose`."""
    return Pose(position=vector(transform[:3, 3]), orientation=quaternion(transform[:3, :3]))


def matrix(translation: Any, orientation: Any) -> Float64Array:
    """The (4, 4) transform of a `Vector3` and a `Quaternion`; raises `InputError` for numbers that are none."""
    moved = np.array([translation.x, translation.y, translation.z])
    if not np.isfinite(moved).all():
        raise InputError("a translation that is not finite")
    return rigid(rotation(orientation), moved)
