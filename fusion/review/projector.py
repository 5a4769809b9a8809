"""Evidence → visual embeddings: what a vision tower and its projector are for pixels, this is for the other lanes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusion.review.batch import EvidenceBatch
from fusion.review.layout import FeatureLayout


class EvidenceProjector(nn.Module):
    """Small perceptrons, one a lane, over standardised features, plus learned places.

    The statistics are buffers, measured on the training set by `fit_statistics`; a constant feature has spread 1.
    """

    def __init__(self, layout: FeatureLayout, width: int, hidden: int) -> None:
        super().__init__()
        self.layout = layout
        self.maps = _perceptron(layout.map_token_width, hidden, width)
        self.map_places = nn.Parameter(0.02 * torch.randn(layout.map_tokens, width))
        self.opinion = _perceptron(layout.opinion_width, hidden, width)
        self.tokens = _perceptron(max(1, layout.token_width), hidden, width)
        self.token_places = nn.Parameter(0.02 * torch.randn(max(1, layout.max_tokens), width))
        for lane, size in self._lanes().items():
            self.register_buffer(f"{lane}_mean", torch.zeros(size))
            self.register_buffer(f"{lane}_spread", torch.ones(size))

    def _lanes(self) -> dict[str, int]:
        layout = self.layout
        levels = {f"level{index}": shape[2] for index, shape in enumerate(layout.map_shapes)}
        return {**levels, "token": max(1, layout.token_width), "opinion": layout.opinion_width}

    def fit_statistics(self, batch: EvidenceBatch) -> None:
        """Take mean and spread of every feature from a large batch; a lane the batch lacks keeps its own."""
        levels = {f"level{index}": values for index, values in enumerate(batch.maps)}
        lanes = {**levels, "token": batch.tokens, "opinion": batch.opinion}
        for lane, values in lanes.items():
            if len(values) < 2:
                continue
            flat = values.reshape(-1, values.shape[-1])
            spread = flat.std(0)
            self.get_buffer(f"{lane}_mean").copy_(flat.mean(0))
            self.get_buffer(f"{lane}_spread").copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))

    def project_maps(self, maps: Sequence[Tensor]) -> Tensor:
        """One (M, rows, columns, channels) a level → (M, grid * grid, width), row by row from the top left."""
        grid, patches = self.layout.grid, []
        for index, (values, parts) in enumerate(zip(maps, self.layout.parts, strict=True)):
            standard = self._standard(f"level{index}", values)
            blocks = standard.reshape(len(values), grid, parts, grid, parts, -1).transpose(2, 3)
            patches.append(blocks.reshape(len(values), grid * grid, -1))
        projected: Tensor = self.maps(torch.cat(patches, 2))
        return projected + self.map_places

    def project_tokens(self, tokens: Tensor, index: Tensor) -> Tensor:
        """(N, D) and their places (N,) → (N, width)."""
        projected: Tensor = self.tokens(self._standard("token", tokens))
        return projected + self.token_places[index]

    def project_opinion(self, opinion: Tensor) -> Tensor:
        """(B, G) → (B, width)."""
        projected: Tensor = self.opinion(self._standard("opinion", opinion))
        return projected

    def _standard(self, lane: str, values: Tensor) -> Tensor:
        scaled = (values - self.get_buffer(f"{lane}_mean")) / self.get_buffer(f"{lane}_spread")
        return scaled.clamp(-10, 10)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
