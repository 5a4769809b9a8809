"""What evidence costs and is worth at each of its rates: the measured part of a profile's card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.codec import RATES
from fusion.evaluation.reviewer import escalated
from fusion.review.features import ReviewFeatures, extract_features
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.training.review_items import Device
from fusion.training.review_sources import LabelledMoment, MomentSource
from fusion.types import Float64Array, ItemId, SampleId
from fusion.wire.convert import serialize_evidence

MOMENTS = 200
_BATCH = 64
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Escalated:
    """What of one moment is escalated: `chosen` detections by index, and their truth (n, slots) as option indices."""

    number: int
    moment: LabelledMoment
    chosen: list[int]
    truth: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RateFigures:
    """One rate over all items: bytes of the whole message, share of verdicts right in every slot, and mean over slots
    of -ln of the truth's probability.
    """

    bytes_median: float
    bytes_p95: float
    right: float
    log_loss: float

    def told(self) -> str:
        """The figures as a card tells them."""
        return (
            f"{self.bytes_median:,.0f} bytes median, {self.bytes_p95:,.0f} p95; verdicts right {self.right:.3f}, "
            f"log-loss {self.log_loss:.4f}"
        )


@dataclass(slots=True)
class _Told:
    sizes: list[int] = field(default_factory=list)
    rows: list[ReviewFeatures] = field(default_factory=list)


def escalated_moments(source: MomentSource, cache: ItemCache, *, most: int, quiet: bool = False) -> Iterator[Escalated]:
    """Up to `most` moments of `source`, evenly spread, that have items the device would escalate; `cache` holds the
    source's items, one moment a scene.
    """
    asked, scene_of = escalated(cache), cache.columns["scene"]
    numbers = np.unique(scene_of[asked])
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    for number in tqdm(numbers.tolist(), unit="moment", desc="rates of evidence", disable=quiet):
        rows = np.flatnonzero(scene_of == number)
        chosen = np.flatnonzero(asked[rows])
        yield Escalated(number, source.load(number), chosen.tolist(), cache.columns["truth"][rows[chosen]])


def measure_rates(
    device: Device, reviewer: MiniReviewer, moments: Iterator[Escalated]
) -> tuple[int, dict[str, RateFigures]]:
    """How many items the moments have, and each rate's figures by name, finest first."""
    told = {rate.name: _Told() for rate in RATES}
    truth = []
    for asked in moments:
        found, fused = device.look(asked.number, asked.moment)
        truth.append(asked.truth)
        sample = SampleId("rates", "0" * 16, asked.number + 1)
        for index in asked.chosen:
            for rate in RATES:
                evidence = device.evidence(ItemId(sample, index + 1), found, fused, index, rate)
                row = extract_features(evidence, device.profile, device.layout)
                told[rate.name].sizes.append(len(serialize_evidence(evidence)))
                told[rate.name].rows.append(replace(row, crop=None))
    right = np.concatenate(truth) if truth else np.zeros((0, 1), np.int64)
    return len(right), {name: _figures(reviewer, entry, right) for name, entry in told.items() if len(right)}


def probabilities(
    reviewer: MiniReviewer, rows: list[ReviewFeatures], *, crops_alone: bool = False
) -> list[Float64Array]:
    """Calibrated probabilities (N, options) of N items, a table a slot."""
    parts = [
        [table.numpy() for table in reviewer.probabilities(rows[start : start + _BATCH], crops_alone=crops_alone)]
        for start in range(0, len(rows), _BATCH)
    ]
    return [np.concatenate(slot) for slot in zip(*parts, strict=True)]


def log_losses(tables: list[Float64Array], truth: NDArray[np.int64]) -> Float64Array:
    """Of each item (N,), the mean over slots of -ln of the truth's probability."""
    rows = np.arange(len(truth))
    told = [np.log(np.maximum(table[rows, truth[:, i]], _LEAST)) for i, table in enumerate(tables)]
    return np.asarray(-np.mean(told, axis=0), np.float64)


def _figures(reviewer: MiniReviewer, told: _Told, truth: NDArray[np.int64]) -> RateFigures:
    tables = probabilities(reviewer, told.rows)
    right = (reviewer.choose(tables) == truth).all(1).mean()
    median, p95 = np.quantile(told.sizes, [0.5, 0.95])
    return RateFigures(float(median), float(p95), float(right), float(log_losses(tables, truth).mean()))
