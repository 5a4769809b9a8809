"""When which device makes an item: Poisson with a rate a device, a day's swing, and an event that many see at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crowd.settings import Fleet, Trouble


@dataclass(frozen=True, slots=True)
class Demand:
    """One entry an item, in order of time: nanoseconds, device, value for the spool 0..1, bytes on the wire."""

    time_ns: NDArray[np.int64]
    device: NDArray[np.int64]
    value: NDArray[np.float64]
    size: NDArray[np.int64]


def draw(fleet: Fleet, trouble: Trouble, devices: int, seconds: float, seed: int) -> Demand:
    """All items of so many devices in so many seconds; the same for the same seed."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0.0, fleet.sigma, devices)
    weights /= weights.sum()
    peak = devices * fleet.items_per_hour / 3600 * (1 + fleet.day_swing)
    times = rng.uniform(0, seconds, rng.poisson(peak * seconds))
    swing = (1 + fleet.day_swing * np.sin(2 * np.pi * times / fleet.day_s)) / (1 + fleet.day_swing)
    times = times[rng.uniform(size=times.size) < swing]
    who = rng.choice(devices, times.size, p=weights)
    if trouble.event_s is not None:
        seen = np.flatnonzero(np.arange(devices) % fleet.regions == 0)
        seen = np.repeat(seen[rng.uniform(size=seen.size) < trouble.event_share], trouble.event_items)
        who = np.concatenate([who, seen])
        times = np.concatenate([times, trouble.event_s + rng.uniform(0, trouble.event_spread_s, seen.size)])
    order = np.argsort(times, kind="stable")
    size = rng.lognormal(np.log(fleet.evidence_bytes) - fleet.bytes_sigma**2 / 2, fleet.bytes_sigma, order.size)
    return Demand(
        (times[order] * 1e9).astype(np.int64), who[order], rng.uniform(size=order.size), size.astype(np.int64)
    )
