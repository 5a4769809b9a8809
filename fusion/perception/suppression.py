"""Non-maximum suppression: strict within a class, lenient across classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.types import Float32Array


def suppress(
    corners: Float32Array,
    labels: NDArray[np.int64],
    scores: Float32Array,
    *,
    iou: float,
    across: float,
    most: int,
) -> NDArray[np.int64]:
    """Indices of the boxes that stay, best first, at most `most`.

    `corners` (n, 4) float32 x1 y1 x2 y2, `labels` (n,), `scores` (n,). A box falls when a better one of the same
    label overlaps it by more than `iou`, or one of any label by more than `across`: two things may stand one before
    the other, but hardly in the same place. Greedy, equal scores in their given order.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = corners[order].T
    area = (x2 - x1) * (y2 - y1)
    kind = labels[order]
    standing = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for i in range(len(order)):
        if not standing[i]:
            continue
        kept.append(i)
        if len(kept) == most:
            break
        rest = slice(i + 1, None)
        width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        limit = np.where(kind[rest] == kind[i], min(iou, across), across)
        standing[rest] &= shared <= limit * (area[i] + area[rest] - shared)
    return order[kept]
