"""A thing that stands in the yard: its shape, its paint and its pose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from fusion.geometry import rigid, rotation_z
from fusion.simulation.mesh import IndexArray, Mesh
from fusion.types import Box3D, Float32Array, Float64Array


class Surface(NamedTuple):
    """What light meets: `albedo` (n, 3) linear RGB and `gloss` (n,), both 0..1."""

    albedo: Float32Array
    gloss: Float32Array


class Paint(Protocol):
    """The look of a thing. `reflectivity` (parts,) is what a LiDAR's infrared sees, 0..1."""

    @property
    def reflectivity(self) -> Float32Array:
        """Infrared reflectivity by part, 0..1."""
        ...

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """The surface at `points` (n, 3) of the thing's own upright frame, with unit `normals` (n, 3)."""
        ...


@dataclass(slots=True, eq=False)
class Thing:
    """One object, or a piece of the backdrop if `label` is empty.

    `mesh` is in the body frame: on the ground, its front towards -x. `upright` (4, 4) takes body points to
    the frame the paint is defined in, which differs for toppled things. `x`, `y`, `yaw` are the pose in
    the yard; a thing strolls along the yard's x by `stroll` (amplitude in metres, period in seconds).
    `leaks` is the linear RGB (3,) of what runs out of it.
    """

    label: str
    condition: str
    mesh: Mesh
    paint: Paint
    upright: Float64Array = field(default_factory=lambda: np.eye(4))
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    track: int = 0
    nuisance: str = ""
    leaks: Float32Array | None = None
    stroll: tuple[float, float] = (0.0, 1.0)

    @property
    def yard_from_body(self) -> Float64Array:
        """The 4x4 pose in the yard."""
        return rigid(rotation_z(self.yaw), np.array([self.x, self.y, 0.0]))

    def at(self, time_s: float) -> Thing:
        """The thing where it has strolled to by `time_s` seconds. Persons turn round at the ends, forklifts back up."""
        reach, period = self.stroll
        if reach == 0:
            return self
        phase = 2 * np.pi * time_s / period
        turned = float(np.pi / 2 * (1 + np.tanh(5 * np.cos(phase)))) if self.label == "person" else self.yaw
        return replace(self, x=self.x + reach * float(np.sin(phase)), yaw=turned)

    def extent(self) -> tuple[Float64Array, Float64Array]:
        """Lowest and highest corner (3,) of the mesh in the body frame."""
        return self.mesh.vertices.min(0).astype(np.float64), self.mesh.vertices.max(0).astype(np.float64)

    def box_in(self, target_from_yard: Float64Array) -> Box3D:
        """The upright box about the thing in another frame whose z axis is the yard's."""
        low, high = self.extent()
        pose = target_from_yard @ self.yard_from_body
        x, y, z = (float(c) for c in pose[:3, :3] @ ((low + high) / 2) + pose[:3, 3])
        length, width, height = (float(c) for c in high - low)
        return Box3D(x, y, z, length, width, height, float(np.arctan2(pose[1, 0], pose[0, 0])))


def toppled(mesh: Mesh, pitch: float) -> tuple[Mesh, Float64Array]:
    """A mesh turned by `pitch` about y and laid on the ground about the origin, and the way back (4, 4)."""
    c, s = np.cos(pitch), np.sin(pitch)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    laid = mesh.moved(turn)
    low, high = laid.vertices.min(0), laid.vertices.max(0)
    shift = -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]], np.float64)
    return laid.moved(np.eye(3), shift), rigid(turn.T, -turn.T @ shift)
