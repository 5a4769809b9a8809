"""What a source of queries hands to the fuser."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Queries(NamedTuple):
    """`x` (B, Q, D) what the queries begin as, `positions` (B, Q, D), `places` (B, Q, 3) metres in the ego frame, and
    `relations`: what is added to self-attention, (B, heads, Q, Q) a layer; empty for nothing.
    """

    x: Tensor
    positions: Tensor
    places: Tensor
    relations: tuple[Tensor, ...] = ()
