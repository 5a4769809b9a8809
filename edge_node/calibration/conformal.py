"""Conformal risk control: a threshold whose expected loss is bounded, whatever the data, as long as it is exchangeable.

Angelopoulos, Bates, Fisch, Lei and Schuster, Conformal Risk Control (ICLR 2024, arXiv 2208.02814).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.types import Float64Array


def bound(losses: NDArray[np.generic]) -> Float64Array:
    """What the expected loss of one more unit is promised not to exceed at each threshold, (T,): the mean over `losses`
    (N, T), values 0..1, with the one more counted as lost.
    """
    units = len(losses)
    return np.asarray((np.sum(losses, 0, dtype=np.float64) + 1.0) / (units + 1.0))


def never_rising(losses: NDArray[np.generic]) -> NDArray[np.generic]:
    """`losses` (N, T), thresholds from strict to loose, each made the largest of itself and all looser ones.

    A looser threshold sends more, but may lose what a stricter one found (an item is taken for one that was sent
    before). Risk control needs losses that never rise; the largest ones still bound the true ones.
    """
    return np.asarray(np.maximum.accumulate(losses[:, ::-1], axis=1)[:, ::-1])


def strictest(promised: Sequence[float] | Float64Array, alpha: float) -> int | None:
    """The first of T thresholds, from strict to loose, whose bound is at most `alpha`; None when none is.

    `promised` (T,) is `bound` of losses that never rise. With fewer than 1 / alpha - 1 units there never is one.
    """
    return next((place for place, value in enumerate(promised) if value <= alpha), None)
