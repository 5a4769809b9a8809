"""What an adapter costs when the reviewer answers: the same batch through each form in turn, in one process."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Mapping

import numpy as np
import torch

from adaptation.methods import Method, begin
from fusion.review.item_cache import ItemCache
from fusion.review.model import ReviewerNetwork
from fusion.training.lora import low_rank
from fusion.training.reviewer_batches import UNDISTURBED, disturbed_batch

BASE = "frozen"


def forms(lora: Method, bottleneck: Method, cache: ItemCache) -> dict[str, ReviewerNetwork]:
    """The reviewer without an adapter (twice, for what timing alone does), and with each kind, merged and not."""
    unmerged, merged = begin(lora, cache.task, 0), begin(lora, cache.task, 0)
    low_rank.merge(merged.wrapped)
    merged.words.settle()
    unmerged.words.settle()
    plain = begin(Method("words", 0.0), cache.task, 0)
    plain.words.settle()
    adapter = begin(bottleneck, cache.task, 0)
    adapter.words.settle()
    return {
        BASE: plain.network,
        "frozen, again": copy.deepcopy(plain.network),
        f"{lora.name}, merged": merged.network,
        f"{lora.name}, unmerged": unmerged.network,
        bottleneck.name: adapter.network,
    }


@torch.inference_mode()
def added(networks: Mapping[str, ReviewerNetwork], cache: ItemCache, rows: int, rounds: int) -> dict[str, object]:
    """Median and 99th percentile of a batch of `rows` in milliseconds, and each over the frozen reviewer's.

    A round asks every form once, in a random order; `paired` is the median over rounds of the ratio within a round,
    with the 95 % interval of a bootstrap over rounds.
    """
    batch, _ = disturbed_batch(cache, np.arange(rows), UNDISTURBED, np.random.default_rng(0), pixels=False)
    prefixes = {name: network.prefix_cache() for name, network in networks.items()}
    told: dict[str, list[float]] = {name: [] for name in networks}
    order, drawn = list(networks), random.Random(0)
    for number in range(rounds + 3):
        drawn.shuffle(order)
        for name in order:
            started = time.perf_counter()
            networks[name](batch, prefixes[name])
            if number >= 3:
                told[name].append(1e3 * (time.perf_counter() - started))
    frozen = np.array(told[BASE])
    return {name: _figures(np.array(values), frozen) for name, values in told.items()}


def _figures(values: np.ndarray, frozen: np.ndarray) -> dict[str, object]:
    ratios, rng = values / frozen, np.random.default_rng(0)
    drawn = np.median(ratios[rng.integers(0, len(ratios), (1000, len(ratios)))], 1)
    return {
        "median_ms": float(np.median(values)),
        "p99_ms": float(np.quantile(values, 0.99)),
        "median_ratio": float(np.median(values) / np.median(frozen)),
        "p99_ratio": float(np.quantile(values, 0.99) / np.quantile(frozen, 0.99)),
        "paired": [float(np.median(ratios)), *(float(x) for x in np.quantile(drawn, [0.025, 0.975]))],
    }
