"""The ground: asphalt, gravel or concrete, a painted lane, puddles and stains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation import noise
from fusion.simulation.draws import Draws, hsv
from fusion.simulation.mesh import floats
from fusion.simulation.noise import draw_texture
from fusion.simulation.thing import Surface
from fusion.types import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Puddle:
    """A wet patch about (`x`, `y`) in the yard frame, `radius` in metres; water if `colour` is None."""

    x: float
    y: float
    radius: float
    colour: Float32Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """The drive lane along the yard's x axis: `width` between the middles of its edge lines, all in metres."""

    width: float
    line_width: float
    colour: Float32Array
    wear: float

    def holds(self, y: float, margin: float = 0.0) -> bool:
        """Whether a point lies inside the lane by more than `margin` metres."""
        return abs(y) < self.width / 2 - margin


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The yard's floor at z = 0. `kind` is asphalt, gravel or concrete."""

    kind: str
    colour: Float32Array
    coarse: float
    fine: float
    textures: tuple[int, int]
    lane: Lane
    puddles: tuple[Puddle, ...]
    wet: bool

    def shade(self, x: Float32Array, y: Float32Array, distance: Float32Array) -> Surface:
        """The surface at yard points `x`, `y` (n,) seen from `distance` (n,) metres."""
        big = noise.smooth(self.textures[0], x * 23 + 11, y * 23)
        fade = 1 / (1 + distance * np.float32(0.12))
        small = noise.nearest(self.textures[1], x * 160, y * 160) * fade
        tone = 1 + self.coarse * big + self.fine * small
        if self.kind == "concrete":
            joint = np.minimum(np.abs(np.mod(x, 4.0) - 2), np.abs(np.mod(y + 1, 4.0) - 2)) < 0.02
            tone[joint] *= 0.6
        albedo = np.maximum(tone, 0.3)[:, None] * self.colour
        gloss = np.zeros(len(x), np.float32)
        lane = self.lane
        on_line = np.abs(np.abs(y) - lane.width / 2) < lane.line_width / 2 * (1 + 0.08 * big)
        line = np.flatnonzero(on_line & (small + 0.6 * big < 2.4 - lane.wear))
        albedo[line] = lane.colour * (1 + 0.1 * big[line, None])
        if self.wet:
            albedo *= 0.6
            gloss += np.clip(0.12 + 0.12 * big, 0, 0.5)
        for puddle in self.puddles:
            self._wet_patch(puddle, x, y, big, albedo, gloss)
        return Surface(albedo, gloss)

    @staticmethod
    def _wet_patch(
        puddle: Puddle, x: Float32Array, y: Float32Array, big: Float32Array, albedo: Float32Array, gloss: Float32Array
    ) -> None:
        reach = puddle.radius * 1.5
        near = np.flatnonzero((np.abs(x - puddle.x) < reach) & (np.abs(y - puddle.y) < reach))
        rim = np.hypot(x[near] - puddle.x, y[near] - puddle.y) / puddle.radius + 0.15 * big[near]
        inside = near[rim < 1]
        if puddle.colour is None:
            albedo[inside] *= 0.6
            gloss[inside] = 0.35
        else:
            albedo[inside] = 0.08 * albedo[inside] + 0.92 * puddle.colour
            gloss[inside] = 0.45

    def wetness(self, x: Float32Array, y: Float32Array) -> Float32Array:
        """How wet (n,) points of the ground are, 0..1, as far as infrared notices."""
        amount = np.full(len(x), 0.5 if self.wet else 0.0, np.float32)
        for puddle in self.puddles:
            amount[np.hypot(x - puddle.x, y - puddle.y) < puddle.radius] = 1.0
        return amount


def draw_ground(draws: Draws, *, wet: bool) -> Ground:
    """A floor with its lane and a few puddles of plain water; leaks add their own."""
    kind = draws.weighted({"asphalt": 0.4, "concrete": 0.35, "gravel": 0.25})
    value = {"asphalt": (0.3, 0.5), "concrete": (0.58, 0.8), "gravel": (0.45, 0.68)}[kind]
    colour = hsv(draws.held(0.05, 0.2), draws.held(0.0, 0.18), draws.held(*value))
    coarse = {"asphalt": 0.10, "concrete": 0.08, "gravel": 0.12}[kind] * draws.held(0.7, 1.3)
    fine = {"asphalt": 0.14, "concrete": 0.06, "gravel": 0.3}[kind] * draws.held(0.7, 1.3)
    paint = floats([0.75, 0.74, 0.7]) if draws.chance(0.5) else floats([0.72, 0.5, 0.06])
    lane = Lane(draws.held(2.7, 4.2), draws.held(0.13, 0.2), paint * draws.held(0.75, 1.05), draws.held(0.0, 0.9))
    return Ground(kind, colour, coarse, fine, (draw_texture(draws), draw_texture(draws)), lane, (), wet)
