"""Rows of cells as batches: padded cells a level, what the reviewer takes of them, and what the head loses of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.review.batch import EvidenceBatch
from fusion.training.bottleneck.cells import CellItems
from fusion.training.bottleneck.network import Bottleneck, LevelCells


def level_cells(items: CellItems, index: int, rows: NDArray[np.int64]) -> LevelCells:
    """The cells of some items on one level, padded to the most that one of them has."""
    starts = items.starts[index]
    counts = starts[rows + 1] - starts[rows]
    steps = np.arange(max(1, int(counts.max(initial=0))))
    inside = steps < counts[:, None]
    places = np.where(inside, starts[rows][:, None] + steps, 0)
    mask = torch.from_numpy(inside)

    def taken(values: NDArray[np.float16]) -> Tensor:
        return torch.from_numpy(values[places].astype(np.float32)) * mask[..., None]

    return LevelCells(taken(items.cells[index]), taken(items.rows[index]), taken(items.bins[index]), mask)


def cell_batch(items: CellItems, rows: NDArray[np.int64], maps: Any, mapped: NDArray[np.int64]) -> EvidenceBatch:
    """What the reviewer takes of the items `rows`: `maps` are of the places `mapped` among them, opinions of all."""
    layout = items.layout
    return EvidenceBatch(
        opinion=torch.from_numpy(items.columns["opinion"][rows]),
        maps=tuple(maps),
        map_rows=torch.from_numpy(mapped),
        tokens=torch.zeros(0, layout.token_width),
        token_rows=torch.zeros(0, dtype=torch.int64),
        token_index=torch.zeros(0, dtype=torch.int64),
        crops=torch.zeros(0, 3, layout.crop, layout.crop),
        crop_rows=torch.zeros(0, dtype=torch.int64),
    )


def head_loss(bottleneck: Bottleneck, levels: list[LevelCells], codes: Any) -> Tensor:
    """The mean over an item's levels and open cells of what the head loses, (B,)."""
    shares = []
    for level, cells, told in zip(bottleneck.levels, levels, codes, strict=True):
        lost = level.lost(cells.vectors, told) * cells.open
        shares.append(lost.sum(1) / cells.open.sum(1).clamp(min=1))
    return torch.stack(shares).mean(0)
