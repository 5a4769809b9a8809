"""The fuser: item queries and latents read whatever sensors are there.

CMT's idea (Yan et al., 2023) without its custom operators. Absence is real: an absent sensor's tokens are
masked, and zeroed first because attention leaks NaN through masked values; a learned null token a sensor keeps every
row readable. In eager mode absent sensors can be left out altogether, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.lidar import pooled
from fusion.encoders.position import PlanePosition, RayPosition
from fusion.model.attention import RelationBias, standing
from fusion.model.heads import FusedOutputs, FusionHeads
from fusion.model.item_points import ItemPointEncoder
from fusion.model.referring import Referring
from fusion.model.window import box_window, read_windows
from fusion.preparation.pillars import PillarGrid

SENSORS = ("camera", "lidar", "speech")
_BINS = {"camera": 3, "lidar": 2}
_LIDAR_WINDOW_M = 2.4


class SensorTokens(NamedTuple):
    """One sensor: `tokens`, `position` (B, N, D), `available` (B,) bool, `age` (B,) float32 seconds."""

    tokens: Tensor
    position: Tensor
    available: Tensor
    age: Tensor


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


def anchor_places(count: int, azimuths: int = 8, near: float = 2.5, far: float = 15.0) -> Tensor:
    """Places (count, 3) in metres that queries without a box start from: a fan of `azimuths` by log-spaced ranges,
    shuffled once so that any tail of the list still covers the fan.
    """
    ranges = torch.logspace(math.log2(near), math.log2(far), count // azimuths, base=2.0)
    angles = torch.linspace(-0.7, 0.7, azimuths)
    angle, distance = (x.flatten() for x in torch.meshgrid(angles, ranges, indexing="ij"))
    places = torch.stack([distance * angle.cos(), distance * angle.sin(), torch.full_like(angle, 0.5)], 1)
    return places[torch.randperm(count, generator=torch.Generator().manual_seed(7))]


class Fuser(nn.Module):
    """`layers` fusion layers over Q item queries and L latents; positions are shared with the encoders."""

    anchors: Tensor

    def __init__(
        self,
        *,
        ray: RayPosition,
        plane: PlanePosition,
        layers: nn.ModuleList,
        heads: FusionHeads,
        relation: RelationBias,
        item_points: ItemPointEncoder,
        width: int,
        classes: int,
        queries: int,
        latents: int,
        camera_map: tuple[int, int],
        grid: PillarGrid,
        orders: bool = True,
        conditions: int = 0,
        referring: Referring | None = None,
    ) -> None:
        super().__init__()
        self.ray, self.plane, self.layers, self.heads = ray, plane, layers, heads
        self.relation, self.item_points, self.referring = relation, item_points, referring
        self.camera_map, self.grid, self.latent_count, self.orders = camera_map, grid, latents, orders
        known = 7 + classes + 4 * orders + conditions
        self.box_seed = nn.Sequential(nn.Linear(known, width), nn.GELU(), nn.Linear(width, width))
        self.anchor_seed = nn.Parameter(torch.randn(width) * 0.02)
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.latent_position = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.camera_read = nn.Linear(_BINS["camera"] ** 2 * width, width)
        self.lidar_read = nn.Linear(_BINS["lidar"] ** 2 * width, width)
        self.speech_read = nn.Linear(width, width)
        self.modality = nn.Parameter(torch.randn(len(SENSORS), width) * 0.02)
        self.null_token = nn.Parameter(torch.randn(len(SENSORS), width) * 0.02)
        self.age = nn.Linear(2, width)
        self.final = nn.LayerNorm(width)
        self.register_buffer("anchors", anchor_places(queries)[None], persistent=False)  # (1, Q, 3)

    def forward(self, sensors: Mapping[str, SensorTokens], items: Items) -> FusedOutputs:
        """Fuse. A sensor missing from `sensors` is absent for the whole batch; see `SensorTokens` and `Items`."""
        clean = {name: _zero_absent(sensors[name]) for name in SENSORS if name in sensors}
        items = _zero_invalid(items)
        place = torch.where(items.box_valid[..., None], items.item_place, self.anchors)
        x, position = self._queries(clean, items, place)
        keys, values, mask = self._memory(clean, len(x))
        pad = (0, self.latent_count, 0, self.latent_count)
        relations = self.relation(place, items.class_scores, items.box_valid.float())
        for layer, relation in zip(self.layers, relations, strict=True):
            x = layer(x, position, functional.pad(relation, pad), keys, values, mask)
        x = self.final(x)
        answer: FusedOutputs = self.heads(
            x[:, : -self.latent_count],
            x[:, -self.latent_count :],
            place,
            items.class_scores,
            items.condition_scores,
        )
        return self._referred(answer, clean.get("speech"), place)

    def _referred(self, answer: FusedOutputs, speech: SensorTokens | None, place: Tensor) -> FusedOutputs:
        """What was said counts towards being asked for; labels and conditions are taken as they were found."""
        if self.referring is None or speech is None:
            return answer
        found = (answer.label_logits.detach().softmax(-1), answer.condition_logits.detach().softmax(-1))
        said = self.referring(speech.tokens[:, 0], place, *found) * speech.available[:, None]
        return answer._replace(asked_logits=answer.asked_logits + said)

    def _queries(self, sensors: Mapping[str, SensorTokens], items: Items, place: Tensor) -> tuple[Tensor, Tensor]:
        valid = items.box_valid[..., None]
        known = [items.boxes * 2 - 1, items.class_scores, place / 10]
        if self.orders:
            known.append(standing(place, items.class_scores).clamp(max=3.0))
        if items.condition_scores is not None:
            known.append(items.condition_scores)
        seed = self.box_seed(torch.cat(known, -1))
        x = torch.where(valid, seed, self.anchor_seed)
        if (camera := sensors.get("camera")) is not None:
            rows, columns = self.camera_map
            window = box_window(items.boxes, rows, columns, _BINS["camera"])
            read = self.camera_read(read_windows(camera.tokens, window))
            x = x + read * (valid & camera.available[:, None, None])
        if (lidar := sensors.get("lidar")) is not None:
            read = self.lidar_read(read_windows(lidar.tokens, self._ground_window(place)))
            own = self.item_points(items.item_points, items.item_points_valid)
            x = x + (read + own) * lidar.available[:, None, None]
        if (speech := sensors.get("speech")) is not None:
            x = x + (self.speech_read(speech.tokens[:, 0]) * speech.available[:, None])[:, None]
        position = self.plane(place[..., :2]) + self.ray(items.box_rays) * valid
        latents = self.latents.expand(len(x), -1, -1)
        latent_position = self.latent_position.expand(len(x), -1, -1)
        return torch.cat([x, latents], 1), torch.cat([position, latent_position], 1)

    def _ground_window(self, place: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.grid
        rows, columns = grid.tokens
        height, width = grid.rows * grid.cell, grid.columns * grid.cell
        side = torch.ones_like(place[..., 0]) * _LIDAR_WINDOW_M
        centre = torch.stack([(place[..., 1] - grid.y) / width, (place[..., 0] - grid.x) / height], -1)
        boxes = torch.cat([centre, torch.stack([side / width, side / height], -1)], -1)
        return box_window(boxes, rows, columns, _BINS["lidar"])

    def _memory(self, sensors: Mapping[str, SensorTokens], batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (B, S, D) and mask (B, 1, 1, S) of all tokens; maps are read at twice their stride."""
        keys, values, masks = [], [], []
        sizes = {"camera": self.camera_map, "lidar": self.grid.tokens}
        for index, name in enumerate(SENSORS):
            null = self.null_token[index].expand(batch, 1, -1)
            keys.append(null + self.modality[index])
            values.append(null)
            masks.append(torch.ones(batch, 1, dtype=torch.bool, device=null.device))
            if (sensor := sensors.get(name)) is None:
                continue
            tokens, position = sensor.tokens, sensor.position
            if (size := sizes.get(name)) is not None:
                tokens, position = pooled(tokens, size), pooled(position, size)
            age = self.age(torch.stack([sensor.age, torch.exp(-2 * sensor.age)], -1))[:, None]
            keys.append(tokens + position + self.modality[index] + age)
            values.append(tokens)
            masks.append(sensor.available[:, None].expand(-1, tokens.shape[1]))
        return torch.cat(keys, 1), torch.cat(values, 1), torch.cat(masks, 1)[:, None, None]


def _zero_absent(sensor: SensorTokens) -> SensorTokens:
    there = sensor.available[:, None, None]
    return SensorTokens(
        torch.where(there, sensor.tokens, torch.zeros_like(sensor.tokens)),
        torch.where(there, sensor.position, torch.zeros_like(sensor.position)),
        sensor.available,
        torch.where(sensor.available, sensor.age, torch.zeros_like(sensor.age)),
    )


def _zero_invalid(items: Items) -> Items:
    valid = items.box_valid[..., None]
    cleaned = {
        name: torch.where(valid, values, torch.zeros_like(values))
        for name, values in items._asdict().items()
        if name in {"boxes", "box_rays", "class_scores", "item_place", "condition_scores"} and values is not None
    }
    return items._replace(**cleaned, item_points_valid=items.item_points_valid & valid)
