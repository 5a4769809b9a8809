"""The ground the LiDAR encoder reads, and the points of a sweep that lie on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.types import BoolArray, Float32Array

TOKEN_STRIDE = 2
"""Pillars along a token's side."""
PILLAR_POINTS = 8192
"""Points the LiDAR encoder takes."""


@dataclass(frozen=True, slots=True)
class PillarGrid:
    """From `x` and `y` onwards (metres, ego frame), square cells of `cell` metres: `rows` along x, `columns` along y,
    both even.
    """

    x: float = 0.0
    y: float = -12.0
    cell: float = 0.4
    rows: int = 50
    columns: int = 60

    @property
    def tokens(self) -> tuple[int, int]:
        """Rows and columns of the token map."""
        return self.rows // TOKEN_STRIDE, self.columns // TOKEN_STRIDE

    def thinned(self, sweep: Float32Array, most: int = PILLAR_POINTS) -> Float32Array:
        """The points of `sweep` (n, 4) on the grid, every n-th in the sweep's order when they are more than `most`."""
        x, y = sweep[:, 0] - self.x, sweep[:, 1] - self.y
        inside = (x >= 0) & (x < self.rows * self.cell) & (y >= 0) & (y < self.columns * self.cell)
        kept = sweep[inside]
        if len(kept) > most:
            kept = kept[np.arange(most, dtype=np.int64) * len(kept) // most]
        return kept


def pillar_input(sweep: Float32Array, grid: PillarGrid, points: int = PILLAR_POINTS) -> tuple[Float32Array, BoolArray]:
    """`sweep` (n, 4) x y z intensity in the ego frame → the encoder's points (1, `points`, 4) and which are valid."""
    kept = grid.thinned(sweep, points)
    table = np.zeros((1, points, 4), np.float32)
    table[0, : len(kept)] = kept
    return table, (np.arange(points) < len(kept))[None]
