"""The fuser: queries and latents read whatever sensors are there.

CMT's idea (Yan et al., 2023) without its custom operators: tokens with 3-D positions from each sensor, pre-LayerNorm
cross-attention from a set of queries. Where queries come from and what is read off them are parts it is given: items of
a detector (`items`, `heads`) or the cells of a bird's-eye view (`bev`, `centres`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.tokens import Tokens
from fusion.model.memory import Memory


class Fuser(nn.Module):
    """`layers` fusion layers over the queries and `latents` scene tokens.

    `queries` makes `Queries` of tokens and of what it is told; `heads` reads the answer off the fused queries.
    """

    def __init__(
        self, *, memory: Memory, queries: nn.Module, layers: nn.ModuleList, heads: nn.Module, width: int, latents: int
    ) -> None:
        super().__init__()
        self.memory, self.queries, self.layers, self.heads = memory, queries, layers, heads
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.latent_position = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.final = nn.LayerNorm(width)

    def forward(self, sensors: Mapping[str, Tokens], told: Any) -> Any:
        """Fuse what is in `sensors`, by modality; a missing modality is absent for the whole batch.

        `told` is what the queries are made of besides: `Items` or `Views`. The answer is that of the heads.
        """
        tokens = {name: sensors[name].cleaned() for name in self.memory.sensors if name in sensors}
        told = told.cleaned()
        queries = self.queries(tokens, told)
        batch, count = queries.x.shape[:2]
        x = torch.cat([queries.x, self.latents.expand(batch, -1, -1)], 1)
        positions = torch.cat([queries.positions, self.latent_position.expand(batch, -1, -1)], 1)
        keys, values, mask = self.memory(tokens, batch)
        for index, layer in enumerate(self.layers):
            relation = self._with_latents(queries.relations[index]) if queries.relations else None
            x = layer(x, positions, relation, keys, values, mask)
        x = self.final(x)
        return self.heads(x[:, :count], x[:, count:], queries, told, tokens, self.memory.provenance(tokens, batch))

    def _with_latents(self, relation: Tensor) -> Tensor:
        """Latents stand in no relation to anything."""
        return functional.pad(relation, (0, len(self.latents), 0, len(self.latents)))
