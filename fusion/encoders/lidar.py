"""LiDAR tokens: points → point network → pillars by maximum → a small bird's-eye-view network.

PointPillars (Lang et al., 2019) without its unique, sort and loop: a maximum scattered onto a flat canvas
with one trash cell for what is invalid or off the grid, so that every shape is fixed.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from fusion.encoders.position import PlanePosition
from fusion.encoders.registry import Positions
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.pillars import TOKEN_STRIDE, PillarGrid


class LidarEncoder(nn.Module):
    """Points to bird's-eye-view tokens at twice the pillars' size."""

    INPUTS: ClassVar = ("points", "points_valid")
    places: Tensor

    @classmethod
    def from_spec(cls, spec: FusionSpec, positions: Positions) -> Self:
        """The encoder of the ground that `spec` reads."""
        return cls(spec.grid, spec.width, positions.plane)

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        return {
            "points": torch.zeros(1, spec.points, 4),
            "points_valid": torch.zeros(1, spec.points, dtype=torch.bool),
        }

    def __init__(self, grid: PillarGrid, width: int, position: PlanePosition, pillar_width: int = 16) -> None:
        super().__init__()
        self.grid = grid
        self.point = nn.Sequential(nn.Linear(7, pillar_width), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(pillar_width, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.shrink = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.mix = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.out = nn.Conv2d(64, width, 1)
        self.norm = nn.LayerNorm(width)
        self.position = position
        rows, columns = grid.tokens
        side = grid.cell * TOKEN_STRIDE
        xs = grid.x + (torch.arange(rows) + 0.5) * side
        ys = grid.y + (torch.arange(columns) + 0.5) * side
        places = torch.stack(torch.meshgrid(xs, ys, indexing="ij"), -1).reshape(1, -1, 2)
        self.register_buffer("places", places, persistent=False)  # (1, N, 2) metres

    def forward(self, points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """`points` (B, N, 4) float32 x y z intensity in the ego frame, `valid` (B, N) bool → tokens and positions."""
        pillars = self._pillars(points, valid)
        x = self.shrink(self.first(pillars))
        x = x + self.mix(x)
        tokens = self.norm(self.out(x).flatten(2).transpose(1, 2))  # (B, rows * columns, D)
        return tokens, self.position(self.places).expand(len(points), -1, -1)

    def _pillars(self, points: Tensor, valid: Tensor) -> Tensor:
        grid = self.grid
        points = torch.where(valid[..., None], points, torch.zeros_like(points))
        row = torch.floor((points[..., 0] - grid.x) / grid.cell)
        column = torch.floor((points[..., 1] - grid.y) / grid.cell)
        inside = valid & (row >= 0) & (row < grid.rows) & (column >= 0) & (column < grid.columns)
        trash = torch.full_like(row, grid.rows * grid.columns)
        cell = torch.where(inside, row * grid.columns + column, trash).long()  # (B, N)
        offset_x = points[..., 0] - (grid.x + (row + 0.5) * grid.cell)
        offset_y = points[..., 1] - (grid.y + (column + 0.5) * grid.cell)
        x, y, z, intensity = points.unbind(-1)
        inputs = torch.stack([offset_x, offset_y, z, intensity, x / 20, y / 12, torch.ones_like(z)], -1)
        features = self.point(inputs).transpose(1, 2)  # (B, C, N), never negative
        canvas: Tensor = features.new_zeros(len(points), features.shape[1], grid.rows * grid.columns + 1)
        index = cell[:, None, :].expand_as(features)
        canvas = canvas.scatter_reduce(2, index, features, reduce="amax", include_self=True)
        return canvas[:, :, :-1].reshape(len(points), -1, grid.rows, grid.columns)  # (B, C, rows, columns)
