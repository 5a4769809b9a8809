"""An item's own LiDAR points as one vector: a two-stage point network (PointNet, Qi et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ItemPointEncoder(nn.Module):
    """The second stage sees each point beside the maximum over all of them, so that it can tell a dent from a slope.

    `scale` is what each channel is multiplied by, so that what matters in it is about one.
    """

    scale: Tensor

    def __init__(self, scale: Sequence[float], width: int, hidden: int = 64) -> None:
        super().__init__()
        channels = len(scale)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)  # (C,)
        self.first = nn.Sequential(nn.Linear(channels, 48), nn.ReLU(), nn.Linear(48, hidden), nn.ReLU())
        self.own = nn.Linear(hidden, hidden)
        self.shared = nn.Linear(hidden, hidden, bias=False)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(3 * hidden + 1, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, points: Tensor, valid: Tensor) -> Tensor:
        """`points` (..., K, C) float32, `valid` (..., K) bool → (..., D); zeros where an item has no point."""
        mask = valid[..., None]
        points = torch.where(mask, points, torch.zeros_like(points)).clamp(-3.0, 3.0) * self.scale
        single = self.first(points) * mask
        most = single.amax(-2)
        joint = self.last(self.own(single) + self.shared(most)[..., None, :]) * mask
        count = mask.float().sum(-2)  # (..., 1)
        mean = joint.sum(-2) / count.clamp(min=1.0)
        vector: Tensor = self.out(torch.cat([most, joint.amax(-2), mean, torch.log1p(count) / 4], -1))
        return vector * (count > 0)
