"""The ground the LiDAR encoder reads, and the points of a sweep that lie on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ConfigError
from fusion.types import BoolArray, Float32Array

TOKEN_STRIDES = (2, 4, 8)
PILLAR_POINTS = 8192
"""Points the LiDAR encoder takes."""


@dataclass(frozen=True, slots=True)
class PillarGrid:
    """From `x` and `y` onwards (metres, ego frame), square cells of `cell` metres: `rows` along x, `columns` along y.

    `stride` pillars (2, 4 or 8) lie along a token's side; `ConfigError` when `rows` or `columns` is no multiple of it.
    """

    x: float = 0.0
    y: float = -12.0
    cell: float = 0.4
    rows: int = 50
    columns: int = 60
    stride: int = 2

    def __post_init__(self) -> None:
        if self.stride not in TOKEN_STRIDES:
            raise ConfigError(f"LiDAR grid: stride {self.stride}; 2, 4 or 8 pillars a token are allowed")
        if any(side < self.stride or side % self.stride for side in (self.rows, self.columns)):
            raise ConfigError(
                f"LiDAR grid: {self.rows} rows and {self.columns} columns; both must be multiples of the token stride "
                f"{self.stride}"
            )

    @property
    def tokens(self) -> tuple[int, int]:
        """Rows and columns of the token map."""
        return self.rows // self.stride, self.columns // self.stride

    def thinned(self, sweep: Float32Array, most: int = PILLAR_POINTS) -> Float32Array:
        """The points of `sweep` (n, 4 or more) on the grid, every n-th in the sweep's order when they are more than
        `most`.
        """
        x, y = sweep[:, 0] - self.x, sweep[:, 1] - self.y
        inside = (x >= 0) & (x < self.rows * self.cell) & (y >= 0) & (y < self.columns * self.cell)
        kept = sweep[inside]
        if len(kept) > most:
            kept = kept[np.arange(most, dtype=np.int64) * len(kept) // most]
        return kept

    def cells(self, sweep: Float32Array) -> NDArray[np.int64]:
        """The cell row * columns + column (n,) int64 of each point of `sweep` (n, 2 or more), rows * columns off the
        grid; float32 arithmetic, step by step that of the encoder.
        """
        row = np.floor((sweep[:, 0] - np.float32(self.x)) / np.float32(self.cell))
        column = np.floor((sweep[:, 1] - np.float32(self.y)) / np.float32(self.cell))
        inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        cell = np.full(len(sweep), self.rows * self.columns, np.int64)
        cell[inside] = row[inside].astype(np.int64) * self.columns + column[inside].astype(np.int64)
        return cell


class PooledPillars(NamedTuple):
    """Points sorted into pillars: `points` (1, P, K, C) float32, of which the first `counts` (1, P) int64 are valid,
    `cell` (1, P) int64 (rows * columns in unused pillars), and how many points on the grid were `dropped` for want of
    room.
    """

    points: Float32Array
    counts: NDArray[np.int64]
    cell: NDArray[np.int64]
    dropped: int


def pillar_input(sweep: Float32Array, grid: PillarGrid, points: int = PILLAR_POINTS) -> tuple[Float32Array, BoolArray]:
    """`sweep` (n, C) x y z intensity, and dt where the encoder takes sweeps, in the ego frame → the encoder's points
    (1, `points`, C) and which are valid.
    """
    kept = grid.thinned(sweep, points)
    table = np.zeros((1, points, sweep.shape[1]), np.float32)
    table[0, : len(kept)] = kept
    return table, (np.arange(points) < len(kept))[None]


def pooled_pillars(sweep: Float32Array, grid: PillarGrid, pillars: int, points_a_pillar: int) -> PooledPillars:
    """`sweep` (n, C) in the ego frame → the inputs of the graph that is told each point's pillar.

    Pillars are in the order of their cells. When more than `pillars` cells hold points, those with most points are
    kept, the lower cell first among equals; of more than `points_a_pillar` points in a cell every n-th in the sweep's
    order is. The same sweep gives the same answer.
    """
    cell = grid.cells(sweep)
    on_grid = cell < grid.rows * grid.columns
    order = np.flatnonzero(on_grid)[np.argsort(cell[on_grid], kind="stable")]
    cells, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    kept = np.sort(np.argsort(-count, kind="stable")[:pillars])

    pillar_of = np.full(len(cells), -1, np.int64)
    pillar_of[kept] = np.arange(len(kept))
    owner = np.repeat(np.arange(len(cells)), count)  # of each point in `order`
    rank, crowd = np.arange(len(order)) - first[owner], count[owner]
    slot = np.where(crowd > points_a_pillar, -(-rank * points_a_pillar // crowd), rank)
    chosen = (crowd <= points_a_pillar) | ((slot < points_a_pillar) & (slot * crowd // points_a_pillar == rank))
    chosen &= pillar_of[owner] >= 0

    points = np.zeros((1, pillars, points_a_pillar, sweep.shape[1]), np.float32)
    points[0, pillar_of[owner[chosen]], slot[chosen]] = sweep[order[chosen]]
    counts = np.zeros((1, pillars), np.int64)
    counts[0, : len(kept)] = np.minimum(count[kept], points_a_pillar)
    places = np.full((1, pillars), grid.rows * grid.columns, np.int64)
    places[0, : len(kept)] = cells[kept]
    return PooledPillars(points, counts, places, len(order) - int(counts.sum()))
