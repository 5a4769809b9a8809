"""Bottleneck adapters (Houlsby et al., 2019): two small layers around a nonlinearity behind attention and behind the
perceptron of every layer, with a residual connection, the rest frozen. They cannot be merged.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """`x + up(gelu(down(inner(x))))` for what `inner` gives; it begins as `inner` alone."""

    def __init__(self, inner: nn.Module, width: int, narrow: int) -> None:
        super().__init__()
        self.inner = inner
        self.down, self.up = nn.Linear(width, narrow), nn.Linear(narrow, width)
        nn.init.normal_(self.down.weight, std=width**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, values: Tensor) -> Tensor:
        """(..., width of `inner`'s input) → (..., width)."""
        told: Tensor = self.inner(values)
        added: Tensor = self.up(nn.functional.gelu(self.down(told)))
        return told + added


def put_in(text: Any, narrow: int) -> dict[str, nn.Parameter]:
    """Give every layer of a Llama-like model its two adapters (torch's seed), and their parameters."""
    width, learnt = int(text.config.hidden_size), {}
    for number, layer in enumerate(text.layers):
        layer.self_attn.o_proj = Bottleneck(layer.self_attn.o_proj, width, narrow)
        layer.mlp = Bottleneck(layer.mlp, width, narrow)
        for place, adapter in (("attention", layer.self_attn.o_proj), ("mlp", layer.mlp)):
            for part in ("down", "up"):
                for name, parameter in getattr(adapter, part).named_parameters():
                    learnt[f"{number}.{place}.{part}.{name}"] = parameter.requires_grad_(requires_grad=True)
    return learnt
