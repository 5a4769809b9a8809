"""The yard as one ray-castable world, through Open3D's Embree scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import UnavailableError
from fusion.geometry import invert
from fusion.simulation.mesh import IndexArray, floats
from fusion.simulation.thing import Surface, Thing
from fusion.types import BoolArray, Float32Array, Float64Array

Int64Array: TypeAlias = NDArray[np.int64]
SKY = -2
GROUND = -1
_GROUND_REACH = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Where rays ended: `distance` (n,) in ray lengths (inf: sky), `owner` (n,) the thing's index, GROUND or SKY.

    `face` (n,) is the triangle and `weights` (n, 2) the place in it.
    """

    distance: Float32Array
    owner: IndexArray
    face: Int64Array
    weights: Float32Array


class World:
    """Things and ground in the yard frame, ready for rays."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things = list(things)
        reach = _GROUND_REACH
        vertices = [floats([[-reach, -reach, 0], [reach, -reach, 0], [reach, reach, 0], [-reach, reach, 0]])]
        normals = [np.tile(floats([0, 0, 1]), (4, 1))]
        triangles, parts = [np.array([[0, 1, 2], [0, 2, 3]], np.int32)], [np.zeros(2, np.int32)]
        owners = [np.full(2, GROUND, np.int32)]
        base = 4
        for index, thing in enumerate(self.things):
            pose = thing.yard_from_body.astype(np.float32)
            vertices.append(thing.mesh.vertices @ pose[:3, :3].T + pose[:3, 3])
            normals.append(thing.mesh.normals @ pose[:3, :3].T)
            triangles.append(thing.mesh.triangles + np.int32(base))
            owners.append(np.full(len(thing.mesh.triangles), index, np.int32))
            parts.append(thing.mesh.parts)
            base += len(thing.mesh.vertices)
        self._normals = np.concatenate(normals)
        self._triangles = np.concatenate(triangles)
        self._owners = np.concatenate(owners)
        self._parts = np.concatenate(parts)
        self._scene = _embree(np.concatenate(vertices), self._triangles)

    def cast(self, origins: Float32Array, directions: Float32Array) -> Hits:
        """The first thing along each ray; `origins` (3,) or (n, 3), `directions` (n, 3)."""
        found = self._scene.cast_rays(_rays(origins, directions))
        distance = found["t_hit"].numpy()
        face = found["primitive_ids"].numpy().astype(np.int64)
        missed = ~np.isfinite(distance)
        face[missed] = 0
        owner = self._owners[face]
        owner[missed] = SKY
        return Hits(distance, owner, face, found["primitive_uvs"].numpy())

    def blocked(self, origins: Float32Array, directions: Float32Array, reach: float) -> BoolArray:
        """Whether anything lies along each ray within `reach` ray lengths."""
        return np.asarray(self._scene.test_occlusions(_rays(origins, directions), 0.0, reach).numpy())

    def normals(self, hits: Hits, rows: Int64Array, directions: Float32Array) -> Float32Array:
        """Smooth unit normals (m, 3) at the hits `rows` (m,), turned towards the viewer."""
        corner = self._triangles[hits.face[rows]]
        u, v = hits.weights[rows, :1], hits.weights[rows, 1:]
        normal = (
            self._normals[corner[:, 0]] * (1 - u - v)
            + self._normals[corner[:, 1]] * u
            + self._normals[corner[:, 2]] * v
        )
        normal /= np.maximum(np.sqrt(np.einsum("ij,ij->i", normal, normal)), 1e-6)[:, None]
        away = np.einsum("ij,ij->i", normal, directions[rows]) > 0
        normal[away] *= -1
        return np.asarray(normal, np.float32)

    def parts(self, hits: Hits, rows: Int64Array) -> IndexArray:
        """The part (m,) of its thing that each hit of `rows` (m,) lies on."""
        return self._parts[hits.face[rows]]

    def surface(self, index: int, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """The look of thing `index` at yard `points` (m, 3)."""
        thing = self.things[index]
        paint_from_yard = (thing.upright @ invert(thing.yard_from_body)).astype(np.float32)
        local = points @ paint_from_yard[:3, :3].T + paint_from_yard[:3, 3]
        return thing.paint.shade(local, normals @ paint_from_yard[:3, :3].T, parts)


class Silhouette:
    """One thing alone, in its body frame: how much of it would be seen if nothing stood before it."""

    def __init__(self, thing: Thing) -> None:
        self._scene = _embree(thing.mesh.vertices, thing.mesh.triangles)

    def covered(self, origin: Float64Array, directions: Float64Array) -> BoolArray:
        """Which rays (n, 3) from `origin` (3,), both in the body frame, meet the thing."""
        return np.asarray(self._scene.test_occlusions(_rays(floats(origin), floats(directions))).numpy())


def _rays(origins: Float32Array, directions: Float32Array) -> Any:
    import open3d.core as o3c

    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3] = origins
    rays[:, 3:] = directions
    return o3c.Tensor.from_numpy(rays)


def _embree(vertices: Float32Array, triangles: IndexArray) -> Any:
    try:
        import open3d.core as o3c
        from open3d.t.geometry import RaycastingScene
    except ImportError as error:
        raise UnavailableError(f"the simulation needs Open3D (install the extra 'train'): {error}") from error
    scene = RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3c.Tensor.from_numpy(np.ascontiguousarray(vertices, np.float32)),
        o3c.Tensor.from_numpy(np.ascontiguousarray(triangles).astype(np.uint32)),
    )
    return scene
