"""Paired bootstrap: how sure a difference between two ways of answering the same questions is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.types import Float64Array


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean (or difference of means) with its central interval; `draws` resamples."""

    value: float
    low: float
    high: float
    draws: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: NDArray[np.generic],
    groups: NDArray[np.generic],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of `values` (N,), resampled by whole groups (Efron's percentile interval, cluster bootstrap).

    Items of one scene are not independent, so scenes are drawn, with replacement, and the mean is taken over
    all items of those drawn. Pass `a - b`, item by item, to compare two ways of answering. Raises `ValueError`
    without items.
    """
    numbers: Float64Array = np.asarray(values, np.float64)
    if not len(numbers) or numbers.shape != groups.shape:
        raise ValueError(f"{numbers.shape} values in {groups.shape} groups cannot be resampled")
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=numbers)
    counts = np.bincount(group).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        means[draw] = times @ sums / (times @ counts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(numbers.mean()), float(low), float(high), draws)


def interval_of(
    statistic: Callable[[Float64Array], float],
    groups: NDArray[np.generic],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The same of anything that can be told from how often each item counts: `statistic` takes weights (N,)."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        drawn.append(statistic(times[group]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(statistic(np.ones(len(group))), float(low), float(high), draws)


def resampled(units: int, *, draws: int, seed: int = 0, together: int = 256) -> Iterator[Float64Array]:
    """How often each of `units` is drawn: (at most `together`, units) at a time, `draws` rows in all.

    Rows times sums by unit give the sums of each resample, so that many statistics share the same draws.
    """
    rng = np.random.default_rng(seed)
    share = np.full(units, 1.0 / units)
    for begin in range(0, draws, together):
        yield rng.multinomial(units, share, size=min(together, draws - begin)).astype(np.float64)


def two_sided(drawn: Float64Array, units: int) -> float:
    """The two-sided p-value of a difference being zero, from its resamples (draws,), NaN left out.

    Resamples cannot tell below one in their number; there the normal tail with their spread goes on. `units` is how
    many differ at all: all of those differ the same way by chance once in 2 ** (units - 1), and no p-value is below
    that, as in a sign test.
    """
    told = drawn[np.isfinite(drawn)]
    if not len(told):
        return 1.0
    tail = min(int((told <= 0).sum()), int((told >= 0).sum()))
    p = 2.0 * (tail + 1) / (len(told) + 1)
    if not tail:
        spread = float(told.std())
        p = min(p, math.erfc(abs(float(told.mean())) / spread / math.sqrt(2))) if spread else 0.0
    return min(1.0, max(p, 2.0 ** (1 - units)))
