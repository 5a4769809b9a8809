"""What is read off a fused bird's-eye view: objects as peaks of a heat-map, with no suppression operator.

Objects as points (Zhou et al., CenterNet, 2019; CenterPoint, Yin et al., 2021): a heat-map a class, and at each peak
the box, its velocity, condition and whether it is the one asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.tokens import Tokens
from fusion.model.bev import Views, cell_centres
from fusion.model.memory import Provenance
from fusion.model.queries import Queries
from fusion.preparation.pillars import PillarGrid

BOX_CHANNELS = 8
_RARE = -4.6
"""Where heat-map logits begin: one cell in a hundred."""


class BevOutputs(NamedTuple):
    """Maps over R x K cells. `heatmap` (B, C, R, K) logits; `box` (B, 8, R, K): offset from the cell's centre in x and
    y and height z, metres, log length, width and height, sine and cosine of the yaw, all in the ego frame; `velocity`
    (B, 2, R, K) m/s along x and y; `condition` (B, conditions, R, K) and `asked` (B, 1, R, K) logits; `latents`
    (B, L, D); `intent_logits` (B, I); `alarm_logits` (B,) off the first latent, the screening vector; `sensor_present`
    (B, S) and `sensor_age` (B, S) seconds: what it was made from. `condition` and `alarm_logits` are None for a task
    without conditions, `asked` and `intent_logits` for one without intents.
    """

    heatmap: Tensor
    box: Tensor
    velocity: Tensor
    condition: Tensor | None
    asked: Tensor | None
    latents: Tensor
    intent_logits: Tensor | None
    alarm_logits: Tensor | None
    sensor_present: Tensor
    sensor_age: Tensor


class Centres(NamedTuple):
    """The `T` best peaks, best first; field names are the exported graph's output names. `scores` (B, T) in 0..1,
    `labels` (B, T) int64, `box3d` (B, T, 8) as `FusedOutputs.box3d`, `velocity` (B, T, 2) m/s, `condition_logits`
    (B, T, conditions) and `asked_logits` (B, T), None for a task without; the rest as in `BevOutputs`.
    """

    scores: Tensor
    labels: Tensor
    box3d: Tensor
    velocity: Tensor
    condition_logits: Tensor | None
    asked_logits: Tensor | None
    latents: Tensor
    intent_logits: Tensor | None
    alarm_logits: Tensor | None
    sensor_present: Tensor
    sensor_age: Tensor


class CentreHeads(nn.Module):
    """Enlarges the fused map by two, `steps` times, LiDAR's own finer map joined where the sizes meet, and reads it."""

    def __init__(
        self,
        width: int,
        size: tuple[int, int],
        token_map: tuple[int, int],
        steps: int,
        channels: int,
        classes: int,
        conditions: int,
        intents: int,
    ) -> None:
        super().__init__()
        self.size, self.token_map = size, token_map
        self.skip = nn.Conv2d(width, channels, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(width if i == 0 else channels, channels * 4, 3, padding=1) for i in range(steps)
        )
        self.shared = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.heatmap = _head(channels, classes, _RARE)
        self.box, self.velocity = _head(channels, BOX_CHANNELS), _head(channels, 2)
        self.condition = _head(channels, conditions) if conditions else None
        self.asked = _head(channels, 1) if intents else None
        self.intent = nn.Linear(width, intents) if intents else None
        self.alarm = nn.Linear(width, 1) if conditions else None

    def forward(
        self,
        x: Tensor,
        latents: Tensor,
        _queries: Queries,
        _views: Views,
        tokens: Mapping[str, Tokens],
        provenance: Provenance,
        /,
    ) -> BevOutputs:
        """`x` (B, Q, D) of the queries row by row, `latents` (B, L, D)."""
        rows, columns = self.size
        plane = x.transpose(1, 2).reshape(len(x), -1, rows, columns)
        lidar = self._finer(tokens.get("lidar"))
        for stage in self.stages:
            plane = functional.relu(functional.pixel_shuffle(stage(plane), 2))
            if lidar is not None and lidar.shape[2:] == plane.shape[2:]:
                plane = plane + lidar
        plane = self.shared(plane)
        return BevOutputs(
            self.heatmap(plane),
            self.box(plane),
            self.velocity(plane),
            None if self.condition is None else self.condition(plane),
            None if self.asked is None else self.asked(plane),
            latents,
            None if self.intent is None else self.intent(latents[:, 1]),
            None if self.alarm is None else self.alarm(latents[:, 0])[..., 0],
            *provenance,
        )

    def _finer(self, lidar: Tokens | None) -> Tensor | None:
        if lidar is None:
            return None
        features = lidar.features.transpose(1, 2).reshape(len(lidar.features), -1, *self.token_map)
        skip: Tensor = self.skip(features) * lidar.any_valid()[..., None]
        return skip


class PeakReader(nn.Module):
    """`BevOutputs` → the `count` best `Centres`. A peak is a cell that no neighbour of its class exceeds."""

    places: Tensor

    def __init__(self, grid: PillarGrid, size: tuple[int, int], count: int) -> None:
        super().__init__()
        self.size, self.count = size, count
        self.register_buffer("places", cell_centres(grid, *size), persistent=False)  # (R * K, 2)

    def forward(self, maps: BevOutputs) -> Centres:
        """The peaks, best first."""
        heat = maps.heatmap.float().sigmoid()
        peak = heat == functional.max_pool2d(heat, 3, stride=1, padding=1)
        scores, index = (heat * peak).flatten(1).topk(self.count, 1)  # (B, T)
        cells = self.size[0] * self.size[1]
        labels, cell = index // cells, index % cells
        box = _taken(maps.box, cell)
        place = self.places[cell]  # (B, T, 2)
        return Centres(
            scores,
            labels,
            torch.cat([place + box[..., :2], box[..., 2:]], -1),
            _taken(maps.velocity, cell),
            None if maps.condition is None else _taken(maps.condition, cell),
            None if maps.asked is None else _taken(maps.asked, cell)[..., 0],
            maps.latents,
            maps.intent_logits,
            maps.alarm_logits,
            maps.sensor_present,
            maps.sensor_age,
        )


def _taken(maps: Tensor, cell: Tensor) -> Tensor:
    """(B, C, R, K) at flat cells (B, T) → (B, T, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, cell[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def _head(channels: int, outputs: int, bias: float = 0.0) -> nn.Sequential:
    last = nn.Conv2d(channels, outputs, 1)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), last)
