"""Bird's-eye-view queries: one a cell of the ground, which needs no detector and any number of cameras.

Each cell begins with what LiDAR found in it and what the cameras show where it projects to (the lifting by look-up of
Harley et al., Simple-BEV, 2023); everything else it reads by attention. Calibration is an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.position import PlanePosition
from fusion.encoders.tokens import Tokens
from fusion.model.memory import pooled
from fusion.model.queries import Queries
from fusion.preparation.pillars import PillarGrid

_NEAREST_M = 0.3


class Views(NamedTuple):
    """`image_from_ego` (B, V, 3, 4): takes homogeneous points of the ego frame, metres, to (u * d, v * d, d), with u
    and v in 0..1 across and down the camera's input image and d the depth in metres.
    """

    image_from_ego: Tensor

    def cleaned(self) -> Views:
        """What is not finite, as a camera's that is not there may be, becomes zero: it sees nothing."""
        finite = torch.isfinite(self.image_from_ego)
        return Views(torch.where(finite, self.image_from_ego, torch.zeros_like(self.image_from_ego)))


def cell_centres(grid: PillarGrid, rows: int, columns: int) -> Tensor:
    """Centres (rows * columns, 2) of the cells of a map of that size over the whole of `grid`; metres, ego frame."""
    height, width = grid.rows * grid.cell / rows, grid.columns * grid.cell / columns
    xs = grid.x + (torch.arange(rows) + 0.5) * height
    ys = grid.y + (torch.arange(columns) + 0.5) * width
    return torch.stack(torch.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)


class BevQueries(nn.Module):
    """`stride` LiDAR tokens are a query's side. A cell looks into the cameras at each of `heights`, in metres."""

    places: Tensor
    columns: Tensor

    def __init__(
        self,
        plane: PlanePosition,
        grid: PillarGrid,
        stride: int,
        heights: Sequence[float],
        camera_map: tuple[int, int],
        width: int,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"a query of {stride} tokens; 1 or 2 are known")
        self.plane, self.stride, self.camera_map, self.token_map = plane, stride, camera_map, grid.tokens
        rows, columns = self.size = grid.tokens[0] // stride, grid.tokens[1] // stride
        self.seed = nn.Parameter(torch.randn(width) * 0.02)
        self.lidar_read = nn.Linear(width, width)
        self.camera_read = nn.Linear(len(heights) * width, width)
        self.speech_read = nn.Linear(width, width)
        ground = cell_centres(grid, rows, columns)
        levels = torch.tensor(list(heights))
        middle = torch.full((len(ground), 1), float(levels.mean()))
        self.register_buffer("places", torch.cat([ground, middle], 1)[None], persistent=False)  # (1, Q, 3)
        column = torch.cat(
            [
                ground[:, None].expand(-1, len(levels), -1),
                levels[None, :, None].expand(len(ground), -1, 1),
                torch.ones(len(ground), len(levels), 1),
            ],
            2,
        )
        self.register_buffer("columns", column, persistent=False)  # (Q, H, 4) homogeneous

    def forward(self, tokens: Mapping[str, Tokens], views: Views) -> Queries:
        """Queries from cleaned `tokens` and cleaned `views`."""
        batch = len(views.image_from_ego)
        x = self.seed.expand(batch, self.places.shape[1], -1)
        if (lidar := tokens.get("lidar")) is not None:
            own = lidar.features if self.stride == 1 else pooled(lidar.features, self.token_map)
            x = x + self.lidar_read(own) * lidar.any_valid()
        if (camera := tokens.get("camera")) is not None:
            shown, seen = self._seen(camera, views.image_from_ego)
            x = x + self.camera_read(shown) * seen
        if (speech := tokens.get("speech")) is not None:
            x = x + self.speech_read(speech.features[:, :1]) * speech.any_valid()
        positions = self.plane(self.places[..., :2]).expand(batch, -1, -1)
        return Queries(x, positions, self.places.expand(batch, -1, -1))

    def _seen(self, camera: Tokens, image_from_ego: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the cameras that see a point, of what they show there: (B, Q, H * D), zeros where none does; and
        whether any sees some of a cell (B, Q, 1).
        """
        batch, count = image_from_ego.shape[:2]
        queries, levels = self.columns.shape[:2]
        rows, columns = self.camera_map
        seen = torch.einsum("bvij,qhj->bvqhi", image_from_ego, self.columns)
        depth = seen[..., 2:]
        uv = seen[..., :2] / depth.clamp(min=_NEAREST_M)
        there = camera.valid.view(batch, count, -1)[..., :1, None] & (depth[..., 0] > _NEAREST_M)
        inside = there & (uv > 0).all(-1) & (uv < 1).all(-1)  # (B, V, Q, H)
        maps = camera.features.reshape(batch * count, rows, columns, -1).permute(0, 3, 1, 2)
        at = (2 * uv - 1).clamp(-2, 2).reshape(batch * count, queries, levels, 2)
        read = functional.grid_sample(maps.float(), at.float(), padding_mode="border", align_corners=False)
        read = read.view(batch, count, -1, queries, levels) * inside[:, :, None]
        weight = inside.sum(1).clamp(min=1)[:, None]  # (B, 1, Q, H)
        mean = read.sum(1) / weight  # (B, D, Q, H)
        return mean.permute(0, 2, 3, 1).reshape(batch, queries, -1), inside.any(3).any(1)[..., None]
