"""Random draws that keep the test split's parameters out of training, by construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fusion.simulation.sample import Split
from fusion.types import Float32Array

T = TypeVar("T")
_SALT = {Split.TRAIN: 11, Split.VAL: 12, Split.TEST: 13}
_MARGIN = 0.06


class Draws:
    """One seed's random numbers.

    A held-out interval is cut into bins: training and validation draw from the even ones, test from the
    odd ones, with a margin between. Held-out lists are dealt out the same way. Ordinary draws use `rng`.
    """

    def __init__(self, seed: int, split: Split, stream: int = 0) -> None:
        self.split = split
        self.rng = np.random.default_rng([seed, _SALT[split], stream])
        self.parity = 1 if split is Split.TEST else 0

    def held(self, low: float, high: float, bins: int = 8) -> float:
        """A number of [low, high) from this split's bins."""
        index = 2 * int(self.rng.integers(bins // 2)) + self.parity
        share = _MARGIN + (1 - 2 * _MARGIN) * self.rng.random()
        return low + (high - low) * (index + share) / bins

    def held_integer(self, low: int, high: int, bins: int = 8) -> int:
        """A whole number of [low, high) from this split's bins; the bins must hold whole numbers."""
        number = self.held(low, high, bins)
        nearest = round(number)
        return nearest if bin_parity(nearest, low, high, bins) == self.parity else int(number)

    def held_choice(self, options: Sequence[T]) -> T:
        """One of this split's options: every second one of the list."""
        mine = options[self.parity :: 2]
        return mine[int(self.rng.integers(len(mine)))]

    def uniform(self, low: float, high: float) -> float:
        """A number of [low, high), the same for all splits."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def weighted(self, weights: dict[str, float]) -> str:
        """A key, with probability proportional to its value."""
        shares = np.array(list(weights.values()), np.float64)
        return list(weights)[int(self.rng.choice(len(shares), p=shares / shares.sum()))]

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> Float32Array:
        """A linear RGB colour (3,) of a held-out hue."""
        hue = self.held(0.0, 1.0, 16)
        return hsv(hue, self.uniform(*saturation), self.uniform(*value))


def hsv(hue: float, saturation: float, value: float) -> Float32Array:
    """Linear RGB (3,) of hue, saturation and value in 0..1."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    chroma = np.clip(np.minimum(k, 4 - k), 0, 1)
    return np.asarray((value * (1 - saturation * chroma)) ** 2, np.float32)


def bin_parity(number: float, low: float, high: float, bins: int = 8) -> int:
    """Which split a held-out number belongs to: 0 for training and validation, 1 for test."""
    return int((number - low) / (high - low) * bins) % 2
