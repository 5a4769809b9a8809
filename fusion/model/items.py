"""Item queries: one a detection, the others from a fixed fan of anchors; one fused token belongs to one item."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.encoders.position import PlanePosition, RayPosition
from fusion.encoders.tokens import Tokens
from fusion.model.attention import RelationBias, standing
from fusion.model.item_points import ItemPointEncoder
from fusion.model.queries import Queries
from fusion.model.window import box_window, read_windows
from fusion.preparation.pillars import PillarGrid

_BINS = {"camera": 3, "lidar": 2}
_LIDAR_WINDOW_M = 2.4


class Items(NamedTuple):
    """The item queries, as `fusion.preparation.items.ItemArrays` describes them, with a batch axis.

    `condition_scores` is None for a model that is not told them.
    """

    boxes: Tensor
    box_rays: Tensor
    class_scores: Tensor
    box_valid: Tensor
    item_place: Tensor
    item_points: Tensor
    item_points_valid: Tensor
    condition_scores: Tensor | None = None

    def cleaned(self) -> Items:
        """Zeros in the rows that are no box, whatever stands there."""
        valid = self.box_valid[..., None]
        cleaned = {
            name: torch.where(valid, values, torch.zeros_like(values))
            for name, values in self._asdict().items()
            if name in {"boxes", "box_rays", "class_scores", "item_place", "condition_scores"} and values is not None
        }
        return self._replace(**cleaned, item_points_valid=self.item_points_valid & valid)


def anchor_places(count: int, azimuths: int = 8, near: float = 2.5, far: float = 15.0) -> Tensor:
    """Places (count, 3) in metres that queries without a box start from: a fan of `azimuths` by log-spaced ranges,
    shuffled once so that any tail of the list still covers the fan.
    """
    ranges = torch.logspace(math.log2(near), math.log2(far), count // azimuths, base=2.0)
    angles = torch.linspace(-0.7, 0.7, azimuths)
    angle, distance = (x.flatten() for x in torch.meshgrid(angles, ranges, indexing="ij"))
    places = torch.stack([distance * angle.cos(), distance * angle.sin(), torch.full_like(angle, 0.5)], 1)
    return places[torch.randperm(count, generator=torch.Generator().manual_seed(7))]


class ItemQueries(nn.Module):
    """Each item reads the camera inside its box, the LiDAR where it stands, its own points, and what was said.

    Position encodings are shared with the encoders.
    """

    anchors: Tensor

    def __init__(
        self,
        *,
        ray: RayPosition,
        plane: PlanePosition,
        relation: RelationBias,
        item_points: ItemPointEncoder,
        width: int,
        classes: int,
        queries: int,
        camera_map: tuple[int, int],
        grid: PillarGrid,
        orders: bool = True,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        self.ray, self.plane, self.relation, self.item_points = ray, plane, relation, item_points
        self.camera_map, self.grid, self.orders = camera_map, grid, orders
        known = 7 + classes + 4 * orders + conditions
        self.box_seed = nn.Sequential(nn.Linear(known, width), nn.GELU(), nn.Linear(width, width))
        self.anchor_seed = nn.Parameter(torch.randn(width) * 0.02)
        self.camera_read = nn.Linear(_BINS["camera"] ** 2 * width, width)
        self.lidar_read = nn.Linear(_BINS["lidar"] ** 2 * width, width)
        self.speech_read = nn.Linear(width, width)
        self.register_buffer("anchors", anchor_places(queries)[None], persistent=False)  # (1, Q, 3)

    def forward(self, tokens: Mapping[str, Tokens], items: Items) -> Queries:
        """Queries from cleaned `tokens` and cleaned `items`."""
        places = torch.where(items.box_valid[..., None], items.item_place, self.anchors)
        valid = items.box_valid[..., None]
        x = self._read(tokens, items, places, torch.where(valid, self._seed(items, places), self.anchor_seed))
        positions = self.plane(places[..., :2]) + self.ray(items.box_rays) * valid
        relations = self.relation(places, items.class_scores, items.box_valid.float())
        return Queries(x, positions, places, tuple(relations))

    def _seed(self, items: Items, places: Tensor) -> Tensor:
        known = [items.boxes * 2 - 1, items.class_scores, places / 10]
        if self.orders:
            known.append(standing(places, items.class_scores).clamp(max=3.0))
        if items.condition_scores is not None:
            known.append(items.condition_scores)
        seed: Tensor = self.box_seed(torch.cat(known, -1))
        return seed

    def _read(self, tokens: Mapping[str, Tokens], items: Items, places: Tensor, x: Tensor) -> Tensor:
        if (camera := tokens.get("camera")) is not None:
            window = box_window(items.boxes, *self.camera_map, _BINS["camera"])
            read = self.camera_read(read_windows(camera.features, window))
            x = x + read * (items.box_valid[..., None] & camera.any_valid())
        if (lidar := tokens.get("lidar")) is not None:
            read = self.lidar_read(read_windows(lidar.features, self._ground_window(places)))
            own = self.item_points(items.item_points, items.item_points_valid)
            x = x + (read + own) * lidar.any_valid()
        if (speech := tokens.get("speech")) is not None:
            x = x + self.speech_read(speech.features[:, :1]) * speech.any_valid()
        return x

    def _ground_window(self, places: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.grid
        rows, columns = grid.tokens
        height, width = grid.rows * grid.cell, grid.columns * grid.cell
        side = torch.ones_like(places[..., 0]) * _LIDAR_WINDOW_M
        centre = torch.stack([(places[..., 1] - grid.y) / width, (places[..., 0] - grid.x) / height], -1)
        boxes = torch.cat([centre, torch.stack([side / width, side / height], -1)], -1)
        return box_window(boxes, rows, columns, _BINS["lidar"])
