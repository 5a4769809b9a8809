"""Rows of arrays → one batch of tensors, lane by lane, each entry knowing its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fusion.review.features import ReviewFeatures
from fusion.review.layout import FeatureLayout

CROP_MEAN, CROP_SPREAD = 0.5, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceBatch:
    """`size` rows. Lanes hold only the rows that have them, in order, and the row numbers (int64).

    `opinion` (B, G); `maps`, one (M, rows, columns, channels) a level, of `map_rows` (M,); `tokens` (N, D),
    one a token, of `token_rows` (N,) and place `token_index` (N,) within its item; `crops` (P, 3, S, S) in
    -1..1 of `crop_rows` (P,). Floats are float32.
    """

    opinion: Tensor
    maps: tuple[Tensor, ...]
    map_rows: Tensor
    tokens: Tensor
    token_rows: Tensor
    token_index: Tensor
    crops: Tensor
    crop_rows: Tensor

    @property
    def size(self) -> int:
        """Rows in the batch."""
        return self.opinion.shape[0]

    def to(self, device: str | torch.device) -> EvidenceBatch:
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in moved.items():
            moved[name] = tuple(v.to(device) for v in value) if isinstance(value, tuple) else value.to(device)
        return EvidenceBatch(**moved)


def collate(rows: Sequence[ReviewFeatures], layout: FeatureLayout) -> EvidenceBatch:
    """One batch of checked rows; each row keeps exactly its own tokens."""
    maps = [(i, row.maps) for i, row in enumerate(rows) if row.maps is not None]
    tokens = [(i, row.tokens) for i, row in enumerate(rows) if row.tokens is not None]
    crops = [(i, row.crop) for i, row in enumerate(rows) if row.crop is not None]
    return EvidenceBatch(
        opinion=_stack([row.opinion for row in rows], (layout.opinion_width,)),
        maps=tuple(_stack([m[level] for _, m in maps], shape) for level, shape in enumerate(layout.map_shapes)),
        map_rows=torch.tensor([m[0] for m in maps], dtype=torch.int64),
        tokens=torch.from_numpy(_concatenate([t[1] for t in tokens], layout.token_width)),
        token_rows=torch.tensor([i for i, t in tokens for _ in t], dtype=torch.int64),
        token_index=torch.tensor([k for _, t in tokens for k in range(len(t))], dtype=torch.int64),
        crops=to_pixels(_stack_crops([c[1] for c in crops], layout.crop)),
        crop_rows=torch.tensor([c[0] for c in crops], dtype=torch.int64),
    )


def to_pixels(crops: Tensor) -> Tensor:
    """(P, S, S, 3) uint8 → (P, 3, S, S) float32 in -1..1, as the vision tower takes them."""
    return (crops.permute(0, 3, 1, 2).float() / 255 - CROP_MEAN) / CROP_SPREAD


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    if not arrays:
        return torch.zeros((0, *shape))
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))


def _stack_crops(arrays: Sequence[np.ndarray], side: int) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros((0, side, side, 3), dtype=torch.uint8)


def _concatenate(arrays: Sequence[np.ndarray], width: int) -> np.ndarray:
    return np.concatenate(arrays).astype(np.float32, copy=False) if arrays else np.zeros((0, width), np.float32)
