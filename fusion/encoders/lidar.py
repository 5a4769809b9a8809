"""LiDAR tokens: points → point network → pillars by maximum → a small bird's-eye-view network.

PointPillars (Lang et al., 2019) without its unique, sort and loop: a maximum scattered onto a flat canvas
with one trash cell for what is invalid or off the grid, so that every shape is fixed. `HostPooledLidar` is the
same network for runtimes that cannot scatter a maximum: its caller says which points share a pillar.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from fusion.encoders.position import PlanePosition
from fusion.encoders.registry import Positions
from fusion.errors import ConfigError
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.pillars import PillarGrid

CHANNELS = (32, 64, 128, 256)
"""Channels before the first stage of stride 2 and after each, where a builder does not say otherwise."""


class LidarEncoder(nn.Module):
    """Points to bird's-eye-view tokens, `grid.stride` pillars a side.

    `channels` holds those of the pillars' convolution and of each halving, 1 + log2(stride) numbers. With `sweeps`
    a point also has dt, its time in seconds before the sweep's reference time (<= 0): the timestamp offset by which a
    network learns what is stale (Zoox, 2025).
    """

    INPUTS: ClassVar = ("points", "points_valid")
    places: Tensor

    @classmethod
    def from_spec(
        cls,
        spec: FusionSpec,
        positions: Positions,
        /,
        *,
        channels: Sequence[int] | None = None,
        sweeps: bool = False,
    ) -> Self:
        """The encoder of the ground that `spec` reads."""
        return cls(spec.grid, spec.width, positions.plane, channels=channels, sweeps=sweeps)

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        channels = 5 if spec.encoder_options("lidar").get("sweeps") else 4
        return {
            "points": torch.zeros(1, spec.points, channels),
            "points_valid": torch.zeros(1, spec.points, dtype=torch.bool),
        }

    def __init__(
        self,
        grid: PillarGrid,
        width: int,
        position: PlanePosition,
        pillar_width: int = 16,
        *,
        channels: Sequence[int] | None = None,
        sweeps: bool = False,
    ) -> None:
        super().__init__()
        halvings = grid.stride.bit_length() - 1
        channels = CHANNELS[: halvings + 1] if channels is None else tuple(channels)
        if len(channels) != halvings + 1:
            raise ConfigError(
                f"LiDAR encoder: {len(channels)} channel numbers {tuple(channels)}; a token stride of {grid.stride} "
                f"needs {halvings + 1}"
            )
        self.grid, self.channels_in = grid, 5 if sweeps else 4
        self.point = nn.Sequential(nn.Linear(self.channels_in + 3, pillar_width), nn.ReLU())
        self.first = _convolution(pillar_width, channels[0])
        self.shrink = _convolution(channels[0], channels[1], stride=2)
        self.mix = _convolution(channels[1], channels[1])
        self.stages = nn.ModuleList(_Stage(*pair) for pair in pairwise(channels[1:]))
        self.out = nn.Conv2d(channels[-1], width, 1)
        self.norm = nn.LayerNorm(width)
        self.position = position
        self.register_buffer("places", _places(grid), persistent=False)  # (1, N, 2) metres

    def forward(self, points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """`points` (B, N, 4) float32 x y z intensity in the ego frame, metres, or (B, N, 5) with dt in seconds;
        `valid` (B, N) bool → tokens and positions, both (B, rows * columns, D) of the token map.
        """
        return self.tokens(self._pillars(points, valid))

    def describe(self, points: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Features (..., pillar_width), never negative, of `points` (..., C) in pillars `row` and `column` (...)."""
        grid = self.grid
        offset_x = points[..., 0] - (grid.x + (row + 0.5) * grid.cell)
        offset_y = points[..., 1] - (grid.y + (column + 0.5) * grid.cell)
        x, y, z, intensity, *dt = points.unbind(-1)
        inputs = torch.stack([offset_x, offset_y, z, intensity, x / 20, y / 12, torch.ones_like(z), *dt], -1)
        features: Tensor = self.point(inputs)
        return features

    def tokens(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and positions of the pillars on `canvas` (B, pillar_width, cells + 1), whose last cell is trash."""
        grid = self.grid
        pillars = canvas[:, :, :-1].reshape(len(canvas), -1, grid.rows, grid.columns)  # (B, C, rows, columns)
        x = self.shrink(self.first(pillars))
        x = x + self.mix(x)
        for stage in self.stages:
            x = stage(x)
        tokens = self.norm(self.out(x).flatten(2).transpose(1, 2))  # (B, rows * columns, D)
        return tokens, self.position(self.places).expand(len(canvas), -1, -1)

    def _pillars(self, points: Tensor, valid: Tensor) -> Tensor:
        grid = self.grid
        points = torch.where(valid[..., None], points, torch.zeros_like(points))
        row = torch.floor((points[..., 0] - grid.x) / grid.cell)
        column = torch.floor((points[..., 1] - grid.y) / grid.cell)
        inside = valid & (row >= 0) & (row < grid.rows) & (column >= 0) & (column < grid.columns)
        trash = torch.full_like(row, grid.rows * grid.columns)
        cell = torch.where(inside, row * grid.columns + column, trash).long()  # (B, N)
        features = self.describe(points, row, column).transpose(1, 2)  # (B, C, N)
        canvas: Tensor = features.new_zeros(len(points), features.shape[1], grid.rows * grid.columns + 1)
        index = cell[:, None, :].expand_as(features)
        return canvas.scatter_reduce(2, index, features, reduce="amax", include_self=True)


class HostPooledLidar(nn.Module):
    """A `LidarEncoder`, its weights shared, fed by `fusion.preparation.pillars.pooled_pillars`.

    TensorRT ignores or refuses a scatter with a reduction; here the maximum runs over a pillar's own points, and
    pillars are only put in their places. Equal to the encoder as long as no pillar overflows.
    """

    def __init__(self, encoder: LidarEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, points: Tensor, count: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """`points` (B, P, K, C) float32, the first `count` (B, P) int64 of a pillar's K valid, `cell` (B, P) int64 row
        * columns + column, each at most once but for the trash cell rows * columns → tokens and positions.
        """
        grid = self.encoder.grid
        valid = torch.arange(points.shape[2], device=points.device) < count[..., None]  # (B, P, K)
        points = torch.where(valid[..., None], points, torch.zeros_like(points))
        row = torch.div(cell, grid.columns, rounding_mode="floor")
        column = cell - row * grid.columns
        row, column = (x[..., None].to(points.dtype).expand_as(valid) for x in (row, column))
        features = self.encoder.describe(points, row, column)  # (B, P, K, C), never negative
        pillars = torch.where(valid[..., None], features, torch.zeros_like(features)).amax(2).transpose(1, 2)
        canvas: Tensor = pillars.new_zeros(len(points), pillars.shape[1], grid.rows * grid.columns + 1)
        return self.encoder.tokens(canvas.scatter(2, cell[:, None, :].expand_as(pillars), pillars))


class _Stage(nn.Module):
    """Halves the map, then mixes neighbours: (B, before, rows, columns) → (B, after, rows / 2, columns / 2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.shrink = _convolution(before, after, stride=2)
        self.mix = _convolution(after, after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        mixed: Tensor = x + self.mix(x)
        return mixed


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU())


def _places(grid: PillarGrid) -> Tensor:
    """Centres (1, N, 2) of the token cells in the ego frame, metres, row by row."""
    rows, columns = grid.tokens
    side = grid.cell * grid.stride
    xs = grid.x + (torch.arange(rows) + 0.5) * side
    ys = grid.y + (torch.arange(columns) + 0.5) * side
    return torch.stack(torch.meshgrid(xs, ys, indexing="ij"), -1).reshape(1, -1, 2)
