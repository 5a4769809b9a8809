"""Triangle meshes and the primitives that everything in the yard is built from. Metres, z up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.types import Float32Array, Float64Array

IndexArray: TypeAlias = NDArray[np.int32]
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_FACE_NORMALS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], np.float32)


def floats(values: ArrayLike) -> Float32Array:
    """`values` as a float32 array of their shape."""
    return np.asarray(values, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """`vertices` and `normals` (V, 3) float32, `triangles` (T, 3) and the part of the object (T,) each belongs to."""

    vertices: Float32Array
    normals: Float32Array
    triangles: IndexArray
    parts: IndexArray

    def moved(self, rotation: Float64Array, translation: ArrayLike = (0.0, 0.0, 0.0)) -> Mesh:
        """The mesh turned by a (3, 3) rotation, then shifted."""
        turn = np.asarray(rotation, np.float32)
        shifted = self.vertices @ turn.T + np.asarray(translation, np.float32)
        return replace(self, vertices=shifted, normals=self.normals @ turn.T)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many."""
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.triangles + np.int32(o) for m, o in zip(meshes, offsets, strict=True)]),
        np.concatenate([m.parts for m in meshes]),
    )


def box(size: ArrayLike, centre: ArrayLike, part: int = 0) -> Mesh:
    """A box of `size` (3,) about `centre` (3,)."""
    corners = _CORNERS * np.asarray(size, np.float32) + np.asarray(centre, np.float32)
    vertices = corners[np.array(_FACES).reshape(-1)]
    first = np.arange(6, dtype=np.int32)[:, None] * 4
    triangles = np.stack([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])], axis=1).reshape(-1, 3)
    return Mesh(vertices, np.repeat(_FACE_NORMALS, 4, axis=0), triangles.astype(np.int32), np.full(12, part, np.int32))


def surface(grid: ArrayLike, part: int = 0, *, closed: bool = False) -> Mesh:
    """A smooth surface through a grid (rows, columns, 3) of points; `closed` joins the last column to the first.

    Its normals look to the right of the rows and up the columns (columns × rows).
    """
    points = np.asarray(grid, np.float32)
    rows, columns = points.shape[:2]
    spans = columns if closed else columns - 1
    r, c = (a.reshape(-1) for a in np.meshgrid(np.arange(rows - 1), np.arange(spans), indexing="ij"))
    after = (c + 1) % columns
    a, b, d, e = r * columns + c, r * columns + after, (r + 1) * columns + c, (r + 1) * columns + after
    triangles = np.concatenate([np.stack([a, b, e], 1), np.stack([a, e, d], 1)]).astype(np.int32)
    vertices = points.reshape(-1, 3)
    faces = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]], vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
    )
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], faces[:, axis], len(vertices)).astype(np.float32)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Mesh(vertices, normals, triangles, np.full(len(triangles), part, np.int32))


def ring_grid(profile: ArrayLike, segments: int, aspect: float = 1.0) -> Float32Array:
    """Points (K, segments, 3) of a profile (K, 2) of radius and height turned about z; y is stretched by `aspect`."""
    outline = np.asarray(profile, np.float32)
    angle = np.arange(segments, dtype=np.float32) * np.float32(2 * np.pi / segments)
    x = outline[:, :1] * np.cos(angle)
    y = outline[:, :1] * np.sin(angle) * np.float32(aspect)
    return np.stack([x, y, np.broadcast_to(outline[:, 1:], x.shape)], axis=2)


def tube(profile: ArrayLike, segments: int, part: int = 0, aspect: float = 1.0) -> Mesh:
    """A profile (K, 2) of radius and height, from below upwards, turned about z."""
    return surface(ring_grid(profile, segments, aspect), part, closed=True)


def ball_profile(radius: float, low: float, high: float, steps: int = 4) -> Float64Array:
    """The profile of a capsule: caps of `radius` about the heights `low` and `high`."""
    angle = np.linspace(0, np.pi / 2, steps + 1)
    down = np.stack([radius * np.sin(angle), low - radius * np.cos(angle)], axis=1)
    up = np.stack([radius * np.cos(angle), high + radius * np.sin(angle)], axis=1)
    return np.concatenate([down, up])


def capsule(start: ArrayLike, end: ArrayLike, radius: float, part: int = 0, segments: int = 12) -> Mesh:
    """A round-ended rod between two points."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.linalg.norm(b - a))
    return tube(ball_profile(radius, 0.0, length), segments, part).moved(_turn_z_to(b - a), a)


def _turn_z_to(direction: Float64Array) -> Float64Array:
    length = np.linalg.norm(direction)
    z = direction / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def plank(centres: ArrayLike, half_width: ArrayLike, half_thickness: ArrayLike, part: int = 0) -> Mesh:
    """A board along `centres` (n, 3), bent where they bend; the two half extents are vectors (3,)."""
    line = np.asarray(centres, np.float32)
    w, t = np.asarray(half_width, np.float32), np.asarray(half_thickness, np.float32)
    corners = [line - w - t, line + w - t, line + w + t, line - w + t]
    strips = [surface(np.stack([corners[i], corners[(i + 1) % 4]]), part) for i in range(4)]
    ends = [surface(np.stack([[c[i] for c in corners[:2]], [corners[3][i], corners[2][i]]]), part) for i in (0, -1)]
    return merge([*strips, *ends])
