"""Attention whose rows share one prefix: its keys and values stay one row, whatever the batch.

A cache would be repeated for every row, gigabytes at a large batch. Here each query's scores against the prefix and
against its own row go through one softmax, which is what attention over both together is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from fusion.review.hub.packed import attend_packed

NAME = "fusion_shared_prefix"
Prefix: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (1, heads, P, width) a layer."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    prefix: Prefix
    packed: BlockMask | None


_shared: ContextVar[_Shared | None] = ContextVar("shared", default=None)


@contextmanager
def shared(prefix: Prefix, packed: BlockMask | None = None) -> Iterator[None]:
    """Within it, text layers whose attention is `NAME` see `prefix`, which may be empty, before their own row.

    Rows `packed` into one see by that mask, and the mask that transformers hands on is not looked at.
    """
    token = _shared.set(_Shared(prefix, packed))
    try:
        yield
    finally:
        _shared.reset(token)


def register() -> None:
    """Make the attention known to transformers by its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers calls it: `query` (B, H, Q, D), `key` and `value` (B, G, K, D), the mask (B, 1, Q, K) bool, True
    where a query sees a key. Returns (B, Q, H, D). Every query sees the whole prefix.
    """
    given = _shared.get()
    if given is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        alone, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return alone, None
    prefix, scale = given.prefix, _scale(options, query.shape[-1])
    if given.packed is not None:
        before = prefix[module.layer_idx] if prefix else None
        return attend_packed(query, key, value, before, block_mask=given.packed, scale=scale), None
    keys, values = prefix[module.layer_idx] if prefix else (key[:1, :, :0], value[:1, :, :0])
    rows, heads, queries, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(rows, groups, heads // groups, queries, width) * scale
    own = grouped.flatten(2, 3) @ key.transpose(2, 3)  # (B, G, heads a group * Q, K)
    own = own.reshape(rows, groups, -1, queries, key.shape[2])
    if attention_mask is not None:
        own = own.masked_fill(~attention_mask[:, :, None], torch.finfo(own.dtype).min)
    among = grouped.transpose(0, 1).flatten(1, 3) @ keys[0].transpose(1, 2)  # (G, B * heads a group * Q, P)
    before = among.reshape(groups, rows, heads // groups, queries, -1).transpose(0, 1)
    weights = torch.softmax(torch.cat([before, own], -1), -1, dtype=torch.float32).to(query.dtype)
    told, heard = torch.split(weights, [keys.shape[2], key.shape[2]], -1)
    of_prefix = told.transpose(0, 1).flatten(1, 3) @ values[0]
    of_row = heard.flatten(2, 3) @ value
    both = of_prefix.reshape(groups, rows, -1, queries, width).transpose(0, 1)
    both = both + of_row.reshape(rows, groups, -1, queries, width)
    return both.flatten(1, 2).transpose(1, 2).contiguous(), None


def _scale(options: dict[str, Any], width: int) -> float:
    scaling = options.get("scaling")
    return float(width**-0.5 if scaling is None else scaling)
