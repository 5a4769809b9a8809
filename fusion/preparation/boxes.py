"""A box in space as the numbers a model learns."""

from __future__ import annotations

import numpy as np

from fusion.types import Box3D, Float32Array

BOX3D_SIZE = 8
_SMALLEST_M = 1e-2


def box3d_vector(box: Box3D) -> Float32Array:
    """X y z in metres, logarithms of length, width and height, sine and cosine of the yaw: (8,)."""
    sizes = np.log(np.maximum([box.length, box.width, box.height], _SMALLEST_M))
    return np.array([box.x, box.y, box.z, *sizes, np.sin(box.yaw), np.cos(box.yaw)], np.float32)


def box3d_of(vector: Float32Array) -> Box3D:
    """The box of a `box3d_vector` (8,); sine and cosine may have any length."""
    x, y, z, *logs, sine, cosine = (float(v) for v in vector)
    length, width, height = (float(np.exp(v)) for v in logs)
    return Box3D(x, y, z, length, width, height, float(np.arctan2(sine, cosine)))
