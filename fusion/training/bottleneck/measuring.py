"""What a bottleneck and its reviewer are worth on items: verdicts, bits by the codec's tables, what the head loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.codec import RATES, fit_frequencies
from fusion.evaluation.reviewer import escalated_rows
from fusion.review.model import ReviewerNetwork
from fusion.training.bottleneck.batches import cell_batch, head_loss, level_cells
from fusion.training.bottleneck.cells import CellItems
from fusion.training.bottleneck.network import Bottleneck, LevelBottleneck
from fusion.training.detection.trunk import CLIP
from fusion.types import Float64Array, Int8Array

_CHUNK = 20_000
"""Vectors projected at once."""
_LEAST_CHANCE = 1e-6


@torch.inference_mode()
def measure(bottleneck: Bottleneck, network: ReviewerNetwork, items: CellItems) -> dict[str, float]:
    """Of the items a device would escalate (all, where it would none), at the finest rate: `verdict`, the share wholly
    right; `nll`, the summed cross-entropy; `bits`, what an item's codes cost by tables counted on these very codes;
    `head`, the share lost to the detection head. And `verdict_least` and `nll_least` of the coarsest rate.
    """
    asked = escalated_rows(items.columns)
    chosen = np.flatnonzero(asked if asked.any() else np.ones(len(items), np.bool_))
    truth, found = items.columns["truth"][chosen], dict[str, float]()
    for rate, ending in ((0, ""), (len(RATES) - 1, "_least")):
        tables = answers(bottleneck, network, items, chosen, rate)
        right = [table.argmax(1) == truth[:, index] for index, table in enumerate(tables)]
        told = [table[np.arange(len(table)), truth[:, index]] for index, table in enumerate(tables)]
        found[f"verdict{ending}"] = float(np.all(right, axis=0).mean())
        found[f"nll{ending}"] = float(-np.log(np.maximum(told, _LEAST_CHANCE)).sum(0).mean())
    bits = item_bits(bottleneck, items, items, chosen)
    return found | {
        "bits": float(bits.mean()),
        "head": _lost_by_head(bottleneck, items, chosen),
        "items": float(len(bits)),
    }


@torch.inference_mode()
def answers(
    bottleneck: Bottleneck, network: ReviewerNetwork, items: CellItems, chosen: NDArray[np.int64], rate: int
) -> list[Float64Array]:
    """Probabilities (n, options) a slot of the items `chosen`, sent at the rate of that place in `RATES`."""
    network.eval()
    prefix, parts = network.prefix_cache(), list[list[Tensor]]()
    for rows in _parts(chosen):
        rates = torch.full((len(rows),), rate)
        maps = [
            bottleneck.maps(index, level_cells(items, index, rows), rates)[0] for index in range(len(bottleneck.levels))
        ]
        parts.append([x.softmax(1) for x in network(cell_batch(items, rows, maps, np.arange(len(rows))), prefix)])
    return [torch.cat(slot).double().numpy() for slot in zip(*parts, strict=True)]


@torch.inference_mode()
def item_bits(bottleneck: Bottleneck, counted: CellItems, items: CellItems, chosen: NDArray[np.int64]) -> Float64Array:
    """Bits (n,) that the codes of the items `chosen` cost at the finest rate, by static tables of the codes of all of
    `counted`, as the codec fits them.
    """
    total = np.zeros(len(chosen))
    for index, level in enumerate(bottleneck.levels):
        table = fit_frequencies(_codes(level, counted.cells[index]), CLIP).astype(np.float64)
        costs, starts = -np.log2(table / table.sum(1, keepdims=True)), items.starts[index]  # (K, codes)
        for place, row in enumerate(chosen):
            codes = _codes(level, items.cells[index][starts[row] : starts[row + 1]]).astype(np.int64)
            total[place] += np.take_along_axis(costs, codes.T + CLIP, axis=1).sum()
    return total


def _codes(level: LevelBottleneck, cells: NDArray[np.float16]) -> Int8Array:
    """Codes (M, K) of vectors (M, C)."""
    parts = [level.quantised(torch.from_numpy(part.astype(np.float32))).numpy() for part in _parts(cells, _CHUNK)]
    return np.concatenate([np.zeros((0, level.encoder.out_features)), *parts]).astype(np.int8)


def _lost_by_head(bottleneck: Bottleneck, items: CellItems, chosen: NDArray[np.int64]) -> float:
    total = 0.0
    for rows in _parts(chosen):
        levels = [level_cells(items, index, rows) for index in range(len(bottleneck.levels))]
        codes = [x.quantised(cells.vectors) for x, cells in zip(bottleneck.levels, levels, strict=True)]
        total += float(head_loss(bottleneck, levels, codes).sum())
    return total / len(chosen)


def _parts(values: NDArray[Any], size: int = 128) -> Iterator[NDArray[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
