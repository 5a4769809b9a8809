"""What every encoder's output becomes: tokens that say where they are, whether they count, and how old they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """One modality: `features`, `positions` (B, N, D) float, the latter encoded in the space of the queries' positions;
    `valid` (B, N) bool, False for a sensor that is not there; `age` (B, N) float32 seconds.

    Sensors of a modality stand behind one another: of V cameras with n tokens each, camera v owns v * n to v * n + n.
    """

    features: Tensor
    positions: Tensor
    valid: Tensor
    age: Tensor

    @classmethod
    def of_sensors(cls, features: Tensor, positions: Tensor, available: Tensor, age: Tensor) -> Tokens:
        """Tokens (B * V, n, D) of V sensors a sample, with `available` and `age` (B, V) a sensor."""
        batch, count = available.shape
        share = features.shape[1]
        return cls(
            features.reshape(batch, count * share, -1),
            positions.reshape(batch, count * share, -1),
            available.repeat_interleave(share, 1),
            age.repeat_interleave(share, 1),
        )

    def cleaned(self) -> Tokens:
        """Zeros instead of whatever stands where nothing is valid: attention leaks NaN through masked values."""
        there = self.valid[..., None]
        return Tokens(
            torch.where(there, self.features, torch.zeros_like(self.features)),
            torch.where(there, self.positions, torch.zeros_like(self.positions)),
            self.valid,
            torch.where(self.valid, self.age, torch.zeros_like(self.age)),
        )

    def any_valid(self) -> Tensor:
        """Whether a sample has any of it: (B, 1, 1) bool."""
        return self.valid.any(1)[:, None, None]
