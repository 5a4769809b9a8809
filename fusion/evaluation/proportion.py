"""Shares and signs of a few things: exact, where a normal distribution or a bootstrap is too sure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_STEPS = 60
"""Halvings: beyond the last bit of a double."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """`part` of `of` things, and what share of all such things that may be: `low` to `high`."""

    part: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.part / self.of

    @classmethod
    def exact(cls, part: int, of: int, confidence: float = 0.95) -> Proportion:
        """The interval of Clopper and Pearson (Biometrika 1934): it holds the true share at least that often.

        For things that are independent. Raises `ValueError` for a share of nothing, or of more than there is.
        """
        if not 0 <= part <= of or not of:
            raise ValueError(f"{part} of {of} is not a share")
        tail = (1 - confidence) / 2
        low = _root(lambda p: _at_least(part, of, p) - tail) if part else 0.0
        high = _root(lambda p: tail - _at_most(part, of, p)) if part < of else 1.0
        return cls(part, of, low, high)


def sign_test(up: int, down: int) -> float:
    """The two-sided p-value of `up` changes one way and `down` the other, were both as likely; of pairs of yes and no
    this is McNemar's exact test. 1 where nothing changed.
    """
    return min(1.0, 2 * _at_most(min(up, down), up + down, 0.5))


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _at_most(part: int, of: int, p: float) -> float:
    return math.fsum(_chance(k, of, p) for k in range(part + 1))


def _at_least(part: int, of: int, p: float) -> float:
    return math.fsum(_chance(k, of, p) for k in range(part, of + 1))


def _chance(k: int, n: int, p: float) -> float:
    """Of exactly `k` of `n`, each with probability `p`."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))
