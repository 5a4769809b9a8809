"""Pallets and crates: boards, and what is left of them when they break."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.geometry import rotation_z
from fusion.simulation import noise
from fusion.simulation.draws import Draws
from fusion.simulation.mesh import IndexArray, Mesh, box, merge, plank
from fusion.simulation.thing import Surface
from fusion.types import Float32Array, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class PalletShape:
    """A pallet's measures in metres: `width` along y faces the viewer; `boards` lie on its deck."""

    width: float
    depth: float
    height: float
    boards: int
    stack: int


def pallet_mesh(shape: PalletShape, draws: Draws, *, broken: bool) -> Mesh:
    """A stack of pallets, its front towards -x: part 0 the boards, 1 the blocks. Broken ones lack boards in front."""
    layers = []
    for level in range(shape.stack):
        damaged = broken and level >= shape.stack - 2
        turn = rotation_z(draws.rng.normal(0, 0.025))
        layers.append(_pallet(shape, draws, damaged=damaged).moved(turn, (0, 0, level * shape.height)))
    return merge(layers)


def _pallet(shape: PalletShape, draws: Draws, *, damaged: bool) -> Mesh:
    w, d, h = shape.width, shape.depth, shape.height
    t, board = 0.022, shape.depth / shape.boards * 0.72
    xs = np.linspace(-d / 2 + board / 2, d / 2 - board / 2, shape.boards)
    parts: list[Mesh] = []
    gone = max(2, shape.boards // 2) if damaged else 0
    for i, x in enumerate(xs):
        if i < gone:
            parts += _splinters(draws, x, w, h, board, t)
        else:
            parts.append(box((board, w, t), (x, 0, h - t / 2)))
    ys = (-w / 2 + 0.05, 0.0, w / 2 - 0.05)
    lost = int(draws.rng.integers(3))
    for k, y in enumerate(ys):
        parts.append(box((d, 0.1, t), (0, y, h - 1.5 * t)))
        for j, x in enumerate((-d / 2 + 0.07, 0.0, d / 2 - 0.07)):
            if not (damaged and j == 0 and k == lost):
                parts.append(box((0.14, 0.1, h - 3 * t), (x, y, h / 2 - t / 2), 1))
    parts += [box((0.1, w, t), (x, 0, t / 2)) for x in (-d / 2 + 0.05, 0.0, d / 2 - 0.05)]
    return merge(parts)


def _splinters(draws: Draws, x: float, width: float, height: float, board: float, thickness: float) -> list[Mesh]:
    """What is left of a broken board: a stump, and often the loose half pointing up."""
    side = 1.0 if draws.chance(0.5) else -1.0
    stump = draws.uniform(0.15, 0.4) * width
    left = [box((board, stump, thickness), (x, side * (width - stump) / 2, height - thickness / 2))]
    if draws.chance(0.85):
        length, rise = draws.uniform(0.3, 0.5) * width, draws.uniform(0.35, 0.9)
        start = np.array([x, -side * width * 0.45, height])
        end = start + length * np.array([draws.uniform(-0.25, 0.25), side * np.cos(rise), np.sin(rise)])
        left.append(plank(np.stack([start, end]), (board / 2, 0, 0), (0, 0, thickness / 2)))
    return left


@dataclass(frozen=True, slots=True, eq=False)
class CrateShape:
    """A crate's outer measures in metres; `slats` on each side with `gap` between."""

    length: float
    width: float
    height: float
    slats: int
    gap: float


def crate_mesh(shape: CrateShape, draws: Draws, condition: str) -> Mesh:
    """A slatted crate, its front towards -x: part 0 the slats, 1 the posts, 2 the dark inside."""
    ln, w, h = shape.length, shape.width, shape.height
    parts = [box((ln - 0.36, w - 0.36, h - 0.1), (0, 0, h / 2 - 0.03), 2), box((ln, w, 0.02), (0, 0, 0.06), 1)]
    post = 0.07
    for x in (-1, 1):
        parts += [box((post, post, h), (x * (ln - post) / 2, y * (w - post) / 2, h / 2), 1) for y in (-1, 1)]
    pitch = (h - 0.04) / shape.slats
    half = (pitch - shape.gap) / 2
    broken = set(_middle(draws, shape.slats)) if condition == "broken" else set()
    dent = _crush(draws, w, h) if condition == "dented" else None
    for i in range(shape.slats):
        z = 0.02 + (i + 0.5) * pitch
        for side in (-1, 1):
            parts.append(box((ln - 0.02, 0.018, 2 * half), (0, side * (w / 2 - 0.005), z)))
        parts.append(box((0.018, w - 0.02, 2 * half), (ln / 2 - 0.005, 0, z)))
        parts += _front_slat(draws, np.array([-ln / 2 + 0.005, w, z, half]), i in broken, dent)
    count = 5
    parts += [box((ln / count - 0.02, w, 0.02), (-ln / 2 + (k + 0.5) * ln / count, 0, h + 0.01)) for k in range(count)]
    return merge(parts)


def _middle(draws: Draws, slats: int) -> list[int]:
    count = max(2, round(slats * draws.uniform(0.45, 0.65)))
    start = int(draws.rng.integers(1, slats - count + 1))
    return list(range(start, start + count))


def _crush(draws: Draws, width: float, height: float) -> Float64Array:
    """A dent of the front: its middle (y, z), its reach (y, z) and depth."""
    return np.array(
        [
            draws.uniform(-0.08, 0.08) * width,
            draws.uniform(0.42, 0.58) * height,
            0.44 * width,
            0.46 * height,
            draws.held(0.10, 0.15),
        ]
    )


def _front_slat(draws: Draws, place: Float64Array, broken: bool, dent: Float64Array | None) -> list[Mesh]:
    x, width, z, half = place
    up, out = (0, 0, half), (0.009, 0, 0)
    if broken:
        side = 1.0 if draws.chance(0.5) else -1.0
        stump = draws.uniform(0.08, 0.3) * width
        pieces = [box((0.018, stump, 2 * half), (x, side * (width - stump) / 2, z))]
        if draws.chance(0.5):
            tilt = _roll(draws.uniform(0.25, 0.7) * side)
            loose = box((0.018, 0.42 * width, 1.8 * half), (0, 0, 0))
            pieces.append(loose.moved(tilt, (x - 0.02, -side * width * 0.27, z)))
        return pieces
    y = np.linspace(-width / 2 + 0.01, width / 2 - 0.01, 17 if dent is not None else 2)
    line = np.stack([np.full(y.shape, x), y, np.full(y.shape, z)], 1)
    if dent is not None:
        inside = np.clip(1 - ((y - dent[0]) / dent[2]) ** 2 - ((z - dent[1]) / dent[3]) ** 2, 0, None)
        line[:, 0] += dent[4] * inside**1.2
    return [plank(line, up, out)]


def _roll(angle: float) -> Float64Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@dataclass(frozen=True, slots=True, eq=False)
class WoodPaint:
    """Sawn timber: a tone, grain of `grain` strength along the longer side, a tone a part."""

    colour: Float32Array
    tones: Float32Array
    grain: float
    texture: int
    reflectivity: Float32Array

    def shade(self, points: Float32Array, normals: Float32Array, parts: IndexArray) -> Surface:
        """See `Paint`."""
        flat = np.abs(normals[:, 0]) < 0.7
        along = np.where(flat & (np.abs(normals[:, 1]) > 0.7), points[:, 0], points[:, 1])
        across = np.where(np.abs(normals[:, 2]) > 0.7, points[:, 0], points[:, 2])
        rings = noise.nearest(self.texture, along * 45, across * 300)
        blotch = noise.nearest(self.texture, along * 60 + 97, across * 60 + 31)
        albedo = self.colour[None] * self.tones[parts][:, None]
        albedo = albedo * np.clip(1 + self.grain * rings + 0.12 * blotch, 0.3, 1.7)[:, None]
        return Surface(albedo.astype(np.float32), np.zeros(len(points), np.float32))
