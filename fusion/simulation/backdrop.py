"""What stands around the yard and is no object of the task: walls, containers, fences, poles, blocks and tyres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation import noise
from fusion.simulation.draws import Draws
from fusion.simulation.mesh import IndexArray, Mesh, box, capsule, floats, merge, tube
from fusion.simulation.noise import draw_texture
from fusion.simulation.thing import Surface, Thing
from fusion.types import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class WallPaint:
    """Plain, brick or corrugated: `pitch` is the pattern's period in metres, `contrast` its depth."""

    colour: Float32Array
    pattern: str
    pitch: float
    contrast: float
    texture: int
    reflectivity: Float32Array

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """See `Paint`."""
        del parts
        along = np.where(np.abs(normals[:, 0]) > 0.7, points[:, 1], points[:, 0])
        z = points[:, 2]
        tone = 1 + 0.08 * noise.smooth(self.texture, along * 25, z * 25)
        if self.pattern == "corrugated":
            tone += self.contrast * np.sin(along * np.float32(2 * np.pi / self.pitch))
        elif self.pattern == "brick":
            row = np.floor(z / (self.pitch * 0.5))
            shifted = along + 0.5 * self.pitch * np.mod(row, 2)
            seam = (np.mod(z, self.pitch * 0.5) < 0.015) | (np.mod(shifted, self.pitch) < 0.015)
            tone = tone - self.contrast * seam
        return Surface(np.clip(tone, 0.2, 1.6)[:, None] * self.colour, np.full(len(points), 0.04, np.float32))


def _paint(draws: Draws, pattern: str) -> WallPaint:
    colour = draws.colour((0.05, 0.6), (0.35, 0.8))
    pitch = draws.held(0.22, 0.34) if pattern == "corrugated" else draws.held(0.3, 0.6)
    return WallPaint(colour, pattern, pitch, draws.held(0.1, 0.28), draw_texture(draws), floats([draws.held(0.2, 0.6)]))


def _placed(mesh: Mesh, paint: WallPaint, x: float, y: float, yaw: float) -> Thing:
    return Thing("", "", mesh, paint, x=x, y=y, yaw=yaw)


def _container(draws: Draws) -> tuple[Mesh, WallPaint]:
    levels = 1 + int(draws.chance(0.35))
    return box((draws.held(5.0, 7.0), 2.4, 2.6 * levels), (0, 0, 1.3 * levels)), _paint(draws, "corrugated")


def _fence(draws: Draws) -> tuple[Mesh, WallPaint]:
    height, span = draws.held(1.6, 2.4), 10.0
    posts = [box((0.06, 0.06, height), (x, 0, height / 2)) for x in np.arange(-span / 2, span / 2 + 0.1, 2.0)]
    rails = [box((span, 0.025, 0.04), (0, 0, z)) for z in np.linspace(0.25, height - 0.05, 6)]
    return merge([*posts, *rails]), _paint(draws, "plain")


def _wall(draws: Draws) -> tuple[Mesh, WallPaint]:
    height = draws.held(2.0, 6.0)
    return box((draws.uniform(8, 14), 0.3, height), (0, 0, height / 2)), _paint(
        draws, draws.weighted({"brick": 1, "plain": 1})
    )


def draw_backdrop(draws: Draws, start: float, end: float) -> list[Thing]:
    """Pieces along both sides of the lane between `start` and `end` (metres along x), and across its end."""
    makers = {"container": _container, "fence": _fence, "wall": _wall}
    things: list[Thing] = []
    for side in (-1, 1):
        x = start + draws.uniform(0, 4)
        setback = draws.held(8.5, 14.0)
        while x < end:
            kind = draws.weighted({"container": 0.45, "fence": 0.25, "wall": 0.3})
            mesh, paint = makers[kind](draws)
            y = side * (setback + draws.uniform(0, 2.5))
            yaw = draws.rng.normal(0, 0.04) + (np.pi / 2 if kind == "container" and draws.chance(0.25) else 0)
            things.append(_placed(mesh, paint, x, y, yaw))
            x += draws.uniform(6.5, 11)
    for y in np.arange(-14.0, 15.0, 7.0):
        mesh, paint = makers[draws.weighted({"container": 0.5, "wall": 0.3, "fence": 0.2})](draws)
        if draws.chance(0.85):
            things.append(_placed(mesh, paint, end + draws.uniform(2, 6), y, np.pi / 2 + draws.rng.normal(0, 0.05)))
    return things


def clutter(draws: Draws) -> Thing:
    """A small thing that is no object of the task: a pole, a concrete block or a pile of tyres."""
    kind = draws.weighted({"pole": 1.0, "block": 1.0, "tyres": 1.0})
    if kind == "pole":
        height = draws.held(0.9, 3.5)
        return Thing("", "", capsule((0, 0, 0), (0, 0, height), draws.held(0.05, 0.12)), _paint(draws, "plain"))
    if kind == "block":
        return Thing("", "", box((0.5, draws.held(1.0, 2.0), 0.6), (0, 0, 0.3)), _paint(draws, "plain"))
    rings = []
    for level in range(int(draws.rng.integers(2, 5))):
        z = level * 0.22
        profile = [[0.16, z + 0.02], [0.3, z], [0.33, z + 0.11], [0.3, z + 0.21], [0.16, z + 0.2]]
        rings.append(tube(profile, 20).moved(np.eye(3), (draws.rng.normal(0, 0.02), draws.rng.normal(0, 0.02), 0)))
    paint = WallPaint(np.full(3, 0.02, np.float32), "plain", 1.0, 0.0, draw_texture(draws), floats([0.1]))
    return Thing("", "", merge(rings), paint)


def gate(draws: Draws, x: float, opening: float) -> list[Thing]:
    """A wall across the yard at `x` with a gap of `opening` metres about the lane."""
    reach, height = 15.0, draws.held(2.0, 3.6)
    length = reach - opening / 2
    paint = _paint(draws, draws.weighted({"brick": 1, "plain": 1, "corrugated": 1}))
    mesh = box((0.3, length, height), (0, 0, height / 2))
    return [_placed(mesh, paint, x, side * (opening + length) / 2, 0.0) for side in (-1, 1)]
