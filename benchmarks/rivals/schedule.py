"""When items are due and from which device: fixed before the run, so that a slow server delays none of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Item i is due `due_s[i]` seconds after the start, ascending, and comes from device `device[i]`."""

    due_s: NDArray[np.float64]
    device: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.due_s)


def poisson(rate_s: float, seconds: float, devices: int, seed: int, *, hot_share: float = 0.0) -> Schedule:
    """A Poisson process of `rate_s` items a second; device 0 sends `hot_share` of them, the others alike the rest.

    With `hot_share` 0 all devices are alike.
    """
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_s * seconds)
    due_s = np.sort(rng.uniform(0, seconds, count))  # given their number, arrivals are uniform
    return Schedule(due_s, rng.choice(devices, count, p=shares(devices, hot_share)))


def periodic(rate_s: float, seconds: float, devices: int, seed: int) -> Schedule:
    """Every device sends `rate_s` items a second at even distances, each beginning at a moment of its own."""
    rng = np.random.default_rng(seed)
    steps = np.arange(int(np.ceil(rate_s * seconds)))
    due_s = (rng.uniform(0, 1 / rate_s, devices)[:, None] + steps / rate_s).ravel()
    device = np.repeat(np.arange(devices), len(steps))
    order = np.argsort(due_s, kind="stable")
    order = order[due_s[order] < seconds]
    return Schedule(due_s[order], device[order])


def shares(devices: int, hot_share: float) -> NDArray[np.float64]:
    """Each device's share of the load; they sum to 1."""
    if not hot_share:
        return np.full(devices, 1 / devices)
    return np.array([hot_share, *[(1 - hot_share) / (devices - 1)] * (devices - 1)])
