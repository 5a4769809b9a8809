"""The attention blocks encoders and fuser are built of: pre-LayerNorm, `scaled_dot_product_attention`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention; queries and keys may carry positions that the values do not."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """`query` (B, Q, D), `key` and `value` (B, S, D) → (B, Q, D).

        `mask` broadcasts to (B, heads, Q, S): bool, True where a key may be read, or float added to the scores.
        """
        q, k, v = (self._split(x) for x in (self.query(query), self.key(key), self.value(value)))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, Q, d)
        # The copy pins the memory order, which the exporter and the attention kernels do not agree on.
        rows = mixed.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # (B, Q, heads, d)
        merged: Tensor = self.out(rows.flatten(2))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, n, d)


class FeedForward(nn.Sequential):
    """Normalise, widen, bend, narrow, drop; the caller adds the residual."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout)
        )


class SelfAttentionLayer(nn.Module):
    """Self-attention and a feed-forward network over one sequence."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.forward_part = FeedForward(width, hidden, dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """`x` and `position` (B, n, D) → (B, n, D)."""
        normal = self.norm(x)
        placed = normal + position
        x = x + self.dropout(self.attention(placed, placed, normal))
        result: Tensor = x + self.forward_part(x)
        return result
