"""What reviews cost, apart from the model: a service that has the weights elsewhere prices evidence by these."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.types import Evidence


@dataclass(frozen=True, slots=True)
class MiniPrice:
    """Visual tokens of the lanes that are there, the opinion, and a marker a slot; twice when there are pixels."""

    map_tokens: int
    slots: int
    crop_tokens: int

    def __call__(self, evidence: Evidence) -> int:
        """Tokens of one review."""
        maps = self.map_tokens if evidence.maps is not None else 0
        tokens = len(evidence.tokens.values) if evidence.tokens is not None else 0
        plain = maps + tokens + 1 + self.slots
        return plain if evidence.pixels is None else 2 * plain + self.crop_tokens


@dataclass(frozen=True, slots=True)
class HubPrice:
    """Visual tokens of the lanes that are read, the text behind them and the tree of answers; at least 1.

    `map_tokens` is None for a model without a projector, which reads pixels alone.
    """

    map_tokens: int | None
    row_tokens: int
    crop_tokens: int

    def __call__(self, evidence: Evidence) -> int:
        """Tokens of one review."""
        seen = 0 if evidence.pixels is None else self.crop_tokens
        if self.map_tokens is not None:
            seen += 1 + (self.map_tokens if evidence.maps is not None else 0)
            seen += len(evidence.tokens.values) if evidence.tokens is not None else 0
        return seen + self.row_tokens if seen else 1
