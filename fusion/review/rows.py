"""Visual tokens of a batch of rows, gathered lane by lane and padded on the left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class VisualRows:
    """`values` (B, V, width), zeros on the left; `counts` (B,) true tokens a row. `offsets` (B, V, 3) say where each
    stands (time, row, column) behind what comes before them all, and `spans` (B,) where text goes on. `valid` (B, V)
    bool: which may be looked at, neither padding nor blank.
    """

    values: Tensor
    counts: Tensor
    offsets: Tensor
    spans: Tensor
    valid: Tensor


class RowBuilder:
    """Takes lanes in the order in which a row has them."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._counts = torch.zeros(rows, dtype=torch.int64, device=device)
        self._spans = torch.zeros(rows, dtype=torch.int64, device=device)
        self._lanes: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []  # rows, places, offsets, valid, values

    def add(self, rows: Tensor, values: Tensor, grid: tuple[int, int] | None = None, blank: int = 0) -> None:
        """Give each of `rows` (n,) a block (n, V, width), one after the other or on a `grid` of rows and columns; the
        last `blank` of it are not looked at.
        """
        steps = torch.arange(values.shape[1], device=rows.device)
        offsets, span = steps[:, None].expand(-1, 3), values.shape[1]
        if grid is not None:
            offsets = torch.stack([torch.zeros_like(steps), steps // grid[1], steps % grid[1]], 1)
            span = max(grid)
        places = self._counts[rows][:, None] + steps
        stands = self._spans[rows][:, None, None] + offsets
        shown = (steps < values.shape[1] - blank).expand_as(places)
        whose = rows[:, None].expand_as(places).flatten()
        self._lanes.append((whose, places.flatten(), stands.flatten(0, 1), shown.flatten(), values.flatten(0, 1)))
        self._counts[rows] += values.shape[1]
        self._spans[rows] += span

    def add_ragged(self, rows: Tensor, index: Tensor, values: Tensor) -> None:
        """Give token t (of N) to row `rows[t]` as the `index[t]`-th of its lane."""
        stands = (self._spans[rows] + index)[:, None].expand(-1, 3)
        shown = torch.ones_like(rows, dtype=torch.bool)
        self._lanes.append((rows, self._counts[rows] + index, stands, shown, values))
        more = torch.bincount(rows, minlength=len(self._counts))
        self._counts += more
        self._spans += more

    def done(self) -> VisualRows:
        """Everything added; rows may be of different lengths, but not all empty."""
        rows, places, stands, shown, values = (torch.cat([lane[part] for lane in self._lanes]) for part in range(5))
        longest = int(self._counts.max())
        at = (rows, longest - self._counts[rows] + places)
        padded = values.new_zeros(len(self._counts), longest, values.shape[-1]).index_put(at, values)
        offsets = stands.new_zeros(len(self._counts), longest, 3).index_put(at, stands)
        valid = shown.new_zeros(len(self._counts), longest).index_put(at, shown)
        return VisualRows(padded, self._counts, offsets, self._spans, valid)
