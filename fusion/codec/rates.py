"""Rates at which evidence about an item can be sent, finest first; what a thin link pays with is accuracy, not items.

The order is that of measured worth: a scene's own tokens tell a reviewer least for their bytes, then the finest level
of the maps, then finer steps (`benchmarks/rate_accuracy.py`; figures in docs/results.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from fusion.codec.layers import LAYERS
from fusion.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Rate:
    """Maps in steps of 2^`step_exponent` of the profile's, their first `layers` layers; and whether the scene's tokens
    come along with the item's own.
    """

    name: str
    step_exponent: int
    layers: int
    scene_tokens: bool


RATES = (
    Rate("full", 0, LAYERS, scene_tokens=True),
    Rate("lean", 0, LAYERS, scene_tokens=False),
    Rate("coarse", 0, 1, scene_tokens=False),
    Rate("least", 1, 1, scene_tokens=False),
)
FULL = RATES[0]


def rate_named(name: str) -> Rate:
    """The rate of that name. Raises `ConfigError` naming the others."""
    for rate in RATES:
        if rate.name == name:
            return rate
    raise ConfigError(f"no rate of evidence is called {name!r}; there are {', '.join(rate.name for rate in RATES)}")
