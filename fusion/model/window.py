"""Reads a map of tokens inside boxes: RoIAlign (He et al., 2017) with a triangle filter as wide as a bin.

The weights are separable, so a read is two matrix products and needs no custom operator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_window(boxes: Tensor, rows: int, columns: int, bins: int) -> tuple[Tensor, Tensor]:
    """Weights over a map's rows (B, Q, bins, rows) and columns (B, Q, bins, columns) for `boxes` (B, Q, 4), centre and
    size in 0..1 of the map across and down.
    """
    across = _weights(boxes[..., 0], boxes[..., 2], columns, bins)
    down = _weights(boxes[..., 1], boxes[..., 3], rows, bins)
    return down, across


def read_windows(tokens: Tensor, window: tuple[Tensor, Tensor]) -> Tensor:
    """`tokens` (B, rows * columns, D) under `window` → (B, Q, bins * bins * D)."""
    down, across = window
    batch, queries, bins, rows = down.shape
    columns = across.shape[3]
    planes = tokens.reshape(batch, rows, -1)  # (B, rows, columns * D)
    bands = down.flatten(1, 2) @ planes  # (B, Q * bins, columns * D)
    bands = bands.view(batch, queries, bins, columns, -1)
    cells = across[:, :, None] @ bands  # (B, Q, bins, bins, D)
    return cells.flatten(2)


def _weights(centre: Tensor, size: Tensor, cells: int, bins: int) -> Tensor:
    """Triangle weights (B, Q, bins, cells): bilinear when a bin is at most one cell, as wide as the bin when more."""
    bin_size = (size * cells / bins)[..., None]  # (B, Q, 1) cells
    steps = torch.arange(bins, device=centre.device) - (bins - 1) / 2
    middle = (centre * cells)[..., None] - 0.5 + steps * bin_size  # (B, Q, bins)
    reach = bin_size.clamp(min=1.0)[..., None]
    index = torch.arange(cells, device=centre.device)
    distance = (middle[..., None] - index).abs() / reach
    weights: Tensor = (1 - distance).clamp(min=0) / reach
    return weights
