"""Drums: ribbed steel barrels, with dents, leaks, and marks that only look like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.simulation import noise
from fusion.simulation.draws import Draws
from fusion.simulation.mesh import IndexArray, Mesh, floats, merge, ring_grid, surface, tube
from fusion.simulation.thing import Surface
from fusion.types import Float32Array

_SEGMENTS = 56
_FRONT = np.pi


@dataclass(frozen=True, slots=True, eq=False)
class Dent:
    """A round dent: `angle` about the drum's axis, `height` of its middle, `reach` and `depth` in metres."""

    angle: float
    height: float
    reach: float
    depth: float


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """Something on a drum's side, at `angle`, between `top` and `bottom`; `half_width` in metres.

    `kind` is leak, shade, label, splash or ring; `streams` (n, 4) are a leak's runs: sideways offset, half
    width, upper and lower end.
    """

    kind: str
    angle: float
    top: float
    bottom: float
    half_width: float
    colour: Float32Array
    streams: Float32Array


def drum_mesh(radius: float, height: float, ribs: float, dent: Dent | None) -> Mesh:
    """A drum standing on the ground: part 0 the side, 1 the lids. `ribs` is how far its ribs stand out, in metres."""
    z = np.unique(np.concatenate([np.linspace(0.0, height, 25), [0.02, height - 0.02]]))
    r = np.full(z.shape, radius)
    for share in (1 / 3, 2 / 3):
        r += ribs * np.exp(-(((z - share * height) / 0.025) ** 2))
    r[np.abs(z - height / 2) > height / 2 - 0.03] += 0.008
    grid = ring_grid(np.stack([r, z], 1), _SEGMENTS).astype(np.float64)
    if dent is not None:
        angle = np.arctan2(grid[..., 1], grid[..., 0])
        along = np.angle(np.exp(1j * (angle - dent.angle))) * radius
        inside = np.clip(1 - (along**2 + (grid[..., 2] - dent.height) ** 2) / dent.reach**2, 0, None)
        scale = 1 - dent.depth * inside**1.5 / radius
        grid[..., :2] *= scale[..., None]
    side = surface(grid, 0, closed=True)
    lids = [
        tube([[radius if up else 0.0, h], [0.0 if up else radius, h]], _SEGMENTS // 2, 1)
        for h, up in ((height - 0.015, True), (0.01, False))
    ]
    return merge([side, *lids])


def leak(draws: Draws, height: float, colour: Float32Array) -> Mark:
    """A wet stain that runs from a seam down to the ground."""
    count = int(draws.rng.integers(4, 7))
    top = draws.held(0.5, 0.9) * height
    half = draws.held(0.10, 0.2)
    streams = np.zeros((count, 4), np.float32)
    streams[:, 0] = np.linspace(-half, half, count) + draws.rng.uniform(-0.03, 0.03, count)
    streams[:, 1] = draws.rng.uniform(0.02, 0.05, count)
    streams[:, 2] = top - draws.rng.uniform(0, 0.06, count)
    streams[:, 3] = np.where(draws.rng.random(count) < 0.7, 0.0, draws.rng.uniform(0.1, 0.3, count)) * height
    angle = _FRONT + draws.uniform(-0.3, 0.3)
    return Mark("leak", angle, top, 0.0, half + 0.02, colour, streams)


def lookalike(draws: Draws, kind: str, height: float) -> Mark:
    """A mark on a sound drum that a careless eye takes for a stain (shade, label, splash) or a dent (ring)."""
    bottom = draws.uniform(0.15, 0.4) * height
    top = bottom + draws.held(0.25, 0.5) * height
    colour = np.asarray(draws.held_choice(_DIRT), np.float32)
    if kind == "splash":
        colour = draws.colour((0.3, 0.9), (0.5, 0.95))
    angle = _FRONT + draws.uniform(-0.5, 0.5)
    return Mark(kind, angle, top, bottom, draws.held(0.08, 0.2), colour, np.zeros((0, 4), np.float32))


_DIRT = (
    (0.30, 0.24, 0.14),
    (0.26, 0.26, 0.22),
    (0.20, 0.15, 0.09),
    (0.34, 0.30, 0.20),
    (0.24, 0.20, 0.16),
    (0.28, 0.22, 0.20),
    (0.22, 0.20, 0.12),
    (0.32, 0.27, 0.17),
)


@dataclass(frozen=True, slots=True, eq=False)
class DrumPaint:
    """A drum's enamel: a colour, a band, wear, and the marks upon it."""

    colour: Float32Array
    band: Float32Array
    band_heights: tuple[float, float]
    radius: float
    gloss: float
    wear: float
    texture: int
    marks: tuple[Mark, ...]
    reflectivity: Float32Array

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """See `Paint`."""
        del normals
        angle = np.arctan2(points[:, 1], points[:, 0])
        z = points[:, 2]
        along = angle * np.float32(self.radius)
        rough = noise.nearest(self.texture, along * 170, z * 170)
        albedo = np.repeat(self.colour[None], len(points), axis=0)
        low, high = self.band_heights
        albedo[(z > low) & (z < high) & (parts == 0)] = self.band
        worn = rough > 2.6 - self.wear
        albedo[worn] = albedo[worn] * 0.5 + floats([0.10, 0.055, 0.03])
        albedo *= (1 + 0.06 * rough)[:, None]
        gloss = np.full(len(points), self.gloss, np.float32)
        side = np.flatnonzero(parts == 0)
        for mark in self.marks:
            offset = np.angle(np.exp(1j * (angle[side] - mark.angle))).astype(np.float32) * np.float32(self.radius)
            amount = _coverage(mark, offset, z[side], rough[side])[:, None]
            if mark.kind in ("shade", "ring"):
                albedo[side] *= 1 - amount * (1 - mark.colour.mean() * 1.2)
            else:
                tint = mark.colour * (1 + 0.12 * rough[side, None])
                albedo[side] = albedo[side] * (1 - amount) + tint * amount
                gloss[side] += amount[:, 0] * (0.6 if mark.kind == "leak" else -self.gloss)
        return Surface(np.clip(albedo, 0.004, 0.95), gloss)


def _coverage(mark: Mark, across: Float32Array, z: Float32Array, rough: Float32Array) -> Float32Array:
    """How much of a mark covers a point (n,), 0..1; `across` is metres sideways of the mark's middle."""
    middle, half = (mark.top + mark.bottom) / 2, (mark.top - mark.bottom) / 2
    if mark.kind == "leak":
        return _runs(mark, across, z, rough)
    if mark.kind == "label":
        inside = (np.abs(across) < mark.half_width) & (np.abs(z - middle) < half)
        return np.asarray(inside * 0.9, np.float32)
    if mark.kind == "shade":
        slant = across + 0.4 * (z - middle)
        edge = np.maximum(np.abs(slant) / mark.half_width, np.abs(z - middle) / half)
        return np.asarray(np.clip((1.15 - edge) / 0.3, 0, 1) * 0.95, np.float32)
    distance = np.hypot(across / mark.half_width, (z - middle) / half)
    if mark.kind == "ring":
        return np.asarray(np.clip(1.2 - distance, 0, 1) * 0.8, np.float32)
    return np.asarray(distance + 0.28 * rough < 0.9, np.float32) * np.float32(0.92)


def _runs(mark: Mark, across: Float32Array, z: Float32Array, rough: Float32Array) -> Float32Array:
    wet = np.hypot(across / mark.half_width, (z - mark.top) / 0.07) + 0.15 * rough < 1.0
    for offset, half, top, bottom in mark.streams:
        narrowing = half * (0.75 + 0.25 * np.clip((z - bottom) / 0.2, 0, 1)) + 0.006 * rough
        wet |= (np.abs(across - offset) < narrowing) & (z < top) & (z > bottom)
    return np.asarray(wet * 0.93, np.float32)
