"""Position encodings that keys and queries share: one for camera rays, one for places on the ground plane.

A camera has no depth, so a cell's position is a handful of 3-D points along its ray (the idea of CMT,
Yan et al., 2023, with log-spaced depths); a LiDAR cell and an object have a place, encoded by log-spaced
Fourier features (Vaswani et al., 2017, with frequencies in cycles over the sensor's reach).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RayPosition(nn.Module):
    """`points` (..., 3 * depths) float32, metres in the ego frame → (..., width)."""

    def __init__(self, depths: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * depths, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, points: Tensor) -> Tensor:
        """Far points count for less: each coordinate is squashed to -1..1 before the network."""
        encoded: Tensor = self.layers(points / (points.abs() + 8.0))
        return encoded


class PlanePosition(nn.Module):
    """`places` (..., 2) float32, x and y in metres in the ego frame → (..., width).

    `reach` is the length in metres that the features call one: the longest side of the ground.
    """

    omega: Tensor

    def __init__(self, width: int, *, reach: float, frequencies: int = 8) -> None:
        super().__init__()
        self.reach = reach
        cycles = torch.logspace(math.log2(0.5), math.log2(24.0), frequencies, base=2.0)
        self.register_buffer("omega", 2 * math.pi * cycles / reach, persistent=False)  # (F,) radians a metre
        self.layers = nn.Sequential(nn.Linear(4 * frequencies + 2, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, places: Tensor) -> Tensor:
        """Sines and cosines of both coordinates, and the coordinates themselves, through two layers."""
        phase = (places[..., None] * self.omega).flatten(-2)  # (..., 2F)
        features = torch.cat([places / self.reach, phase.sin(), phase.cos()], -1)
        encoded: Tensor = self.layers(features)
        return encoded
