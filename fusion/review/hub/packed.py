"""Rows of different lengths as one long row: nothing is padded, and no row sees another.

For a GPU, where attention over blocks that hold nothing to see costs nothing (FlexAttention, Dong et al., 2024). On a
CPU it is slower than padding, and there for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """How the kept places of (B, L) stand in one row of S, a multiple of `BLOCK`, whose rest sees only itself.

    `at` (S,) are places of the flattened (B, L), `place` (S,) places within a row, `there` (S,) bool whether it is one
    of the kept, `ends` (B,) where the rows end. `mask` is of S queries and S + prefix keys.
    """

    at: Tensor
    place: Tensor
    there: Tensor
    ends: Tensor
    mask: BlockMask

    def take(self, values: Tensor) -> Tensor:
        """(B, L, width) → (1, S, width)."""
        return values.flatten(0, 1)[self.at][None]

    def last(self, values: Tensor, count: int) -> Tensor:
        """(1, S, width) → (B, count, width): the last of every row."""
        steps = torch.arange(-count, 0, device=values.device)
        return values[0, self.ends[:, None] + steps]


def pack(kept: Tensor, ends: Tensor, prefix: int) -> Packing:
    """Pack the places that are `kept` (B, L) bool. Place i of a row sees j just where j <= i < `ends[j]` (L,) int64.

    From the first place whose end is not L on all must be kept. All see the `prefix` keys that stand behind the row's
    own.
    """
    length, device = kept.shape[1], kept.device
    found = kept.flatten().nonzero()[:, 0]
    more = -len(found) % BLOCK
    at = nn.functional.pad(found, (0, more))
    there = nn.functional.pad(torch.ones_like(found, dtype=torch.bool), (0, more))
    row, place = at // length, at % length
    size, row_ends = len(at), kept.sum(1).cumsum(0)
    until = torch.where(there, row_ends[row] - length + ends[place], torch.arange(1, size + 1, device=device))

    def may_see(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= size) | ((key <= query) & (query < until[key.clamp(max=size - 1)]))

    blocks, rest = size // BLOCK, prefix % BLOCK
    whole = prefix // BLOCK
    columns = torch.arange(blocks + whole + (rest > 0), device=device)
    back = -(-(length - 1) // BLOCK)
    mine = torch.arange(blocks, device=device)
    first = (mine - back).clamp(min=0)
    partly = first[:, None] + columns  # own blocks in order, then the prefix's last
    counts = mine - first + 1
    if rest:
        partly = torch.where(columns == counts[:, None], blocks + whole, partly)
    indices = torch.where(columns < (counts + (rest > 0))[:, None], partly, 0)
    full = torch.where(columns < whole, blocks + columns, 0).expand(blocks, -1)
    mask = BlockMask.from_kv_blocks(
        _as_index(counts + (rest > 0)),
        _as_index(indices),
        _as_index(torch.full_like(mine, whole)),
        _as_index(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=may_see,
        seq_lengths=(size, size + prefix),
    )
    return Packing(at, place, there, row_ends, mask)


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, before: tuple[Tensor, Tensor] | None, **given: Any
) -> Tensor:
    """`query` (1, H, S, D), `key` and `value` (1, G, S, D), the prefix's (1, G, P, D); returns (1, S, H, D).

    `given` are `block_mask` and `scale` of flex attention.
    """
    if before is not None:
        key, value = torch.cat([key, before[0]], 2), torch.cat([value, before[1]], 2)
    run = _compiled() if query.device.type == "cuda" else flex_attention
    told: Any = run(query, key, value, enable_gqa=query.shape[1] != key.shape[1], **given)
    return torch.as_tensor(told).transpose(1, 2).contiguous()


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def _as_index(values: Tensor) -> Tensor:
    """As block masks want it: for one batch and one head."""
    return values.to(torch.int32).contiguous()[None, None]
