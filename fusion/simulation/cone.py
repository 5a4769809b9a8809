"""Traffic cones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation import noise
from fusion.simulation.mesh import IndexArray, Mesh, box, merge, tube
from fusion.simulation.thing import Surface
from fusion.types import Float32Array


def cone_mesh(height: float, foot: float, slenderness: float) -> Mesh:
    """A cone on a square foot: part 0 the cone, 1 the foot. `slenderness` is its lower radius over `foot`."""
    low = foot * slenderness
    profile = np.stack([np.linspace(low, 0.028, 8), np.linspace(0.03, height, 8)], 1)
    tip = tube([[0.028, height], [0.0, height]], 16, 0)
    return merge([tube(profile, 24, 0), tip, box((foot, foot, 0.035), (0, 0, 0.0175), 1)])


@dataclass(frozen=True, slots=True, eq=False)
class ConePaint:
    """Bright plastic with pale reflecting bands; `bands` (n, 2) are lower and upper heights in metres."""

    colour: Float32Array
    foot: Float32Array
    bands: Float32Array
    texture: int
    reflectivity: Float32Array

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """See `Paint`."""
        del normals
        z = points[:, 2]
        albedo = np.where((parts == 0)[:, None], self.colour, self.foot).astype(np.float32)
        for low, high in self.bands:
            albedo[(parts == 0) & (z > low) & (z < high)] = (0.82, 0.82, 0.8)
        dirt = noise.nearest(self.texture, (points[:, 0] + points[:, 1]) * 200, z * 200)
        albedo *= np.clip(1 + 0.08 * dirt - 0.3 * (z < 0.1), 0.2, 1.3)[:, None]
        return Surface(albedo, np.full(len(points), 0.12, np.float32))
