"""Correction of p-values for the number of comparisons that were made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.types import Float64Array


def holm(p: Float64Array) -> Float64Array:
    """Holm's step-down adjustment of p-values (N,): the chance of any false alarm (Scand. J. Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * factors)) if len(p) else p
    return _in_place(order, stepped)


def benjamini_hochberg(p: Float64Array) -> Float64Array:
    """Their step-up adjustment of p-values (N,): the share of false alarms among alarms (J. R. Stat. Soc. B 1995)."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    stepped = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1]) if len(p) else p
    return _in_place(order, stepped)


def _in_place(order: NDArray[np.int64], stepped: Float64Array) -> Float64Array:
    adjusted = np.empty(len(order), np.float64)
    adjusted[order] = stepped
    return adjusted
