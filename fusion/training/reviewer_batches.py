"""Training batches of the reviewer: rows of an item cache with lanes left out and values disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.codec import RATES
from fusion.review.batch import EvidenceBatch, to_pixels
from fusion.review.item_cache import ItemCache
from fusion.types import UInt8Array


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How rows are disturbed. Shares are of rows; noise is in standard deviations of each feature.

    Lanes are left out so that the reviewer can do without any of them, and the fused heads' opinions so that it
    does not merely repeat them. `coarse_rates` come as sent at a rate below the finest, each as often as the others.
    Of the crops, `recompressed` come as JPEG or WebP of a random quality made them. `flips` mirrors maps and crop: only
    for tasks where left and right mean nothing.
    """

    without_maps: float = 0.15
    without_tokens: float = 0.15
    without_heads: float = 0.15
    with_pixels: float = 0.4
    coarse_rates: float = 0.5
    recompressed: float = 0.0
    noise: float = 0.05
    brightness: float = 0.15
    shift_pixels: int = 4
    flips: bool = False

    @property
    def crops_alone(self) -> bool:
        """Whether every row has its crop and none its maps."""
        return self.without_maps >= 1 and self.with_pixels >= 1


UNDISTURBED = Disturbance(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, flips=False)
_FORMS = ((".jpg", cv2.IMWRITE_JPEG_QUALITY), (".webp", cv2.IMWRITE_WEBP_QUALITY))
_QUALITIES = (5, 95)


def weighted_draw(chance: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` rows without replacement, each as likely as its chance (N,) says: those of the largest u^(1/chance)
    (Efraimidis & Spirakis, 2006).
    """
    return np.argsort(np.log(rng.random(len(chance))) / chance)[::-1][:count]


def batches(
    cache: ItemCache, chosen: NDArray[np.int64], disturbance: Disturbance, size: int, rng: np.random.Generator
) -> Iterator[list[tuple[EvidenceBatch, Tensor]]]:
    """The rows `chosen` in random order, in steps of `size`.

    A step comes as at most two parts, rows without and rows with pixels, so that little is padded; each is a
    batch and its right options (B, slots) int64.
    """
    order = rng.permutation(chosen)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        seen = rng.random(len(rows)) < disturbance.with_pixels
        yield [disturbed_batch(cache, part, disturbance, rng, pixels=bool(pixels)) for part, pixels in
               ((rows[~seen], False), (rows[seen], True)) if len(part)]  # fmt: skip


def disturbed_batch(
    cache: ItemCache, rows: NDArray[np.int64], disturbance: Disturbance, rng: np.random.Generator, *, pixels: bool
) -> tuple[EvidenceBatch, Tensor]:
    """The batch of `rows` and their right options (B, slots)."""
    columns, count, everyone = cache.columns, len(rows), np.arange(len(rows))
    mapped = everyone[rng.random(count) >= disturbance.without_maps]
    spoken = (rng.random(count) >= disturbance.without_tokens) & (columns["token_count"][rows] > 0)
    turns = rng.integers(0, 4 if disturbance.flips else 1, count)
    rates = np.where(rng.random(count) < disturbance.coarse_rates, rng.integers(1, len(RATES), count), 0)
    maps = tuple(
        _noisy(
            _flipped(torch.from_numpy(cache.maps(level, rows[mapped], rates[mapped])), turns[mapped], 1),
            disturbance.noise,
            rng,
        )
        for level in range(len(cache.layout.strides))
    )
    tokens, token_rows, token_index = _tokens(cache, rows, rates, everyone[spoken])
    opinion = _floats(columns["opinion"][rows])
    opinion[torch.from_numpy(rng.random(count) < disturbance.without_heads), cache.layout.heads] = 0.0
    seen = everyone if pixels else everyone[:0]
    pictures = _recompressed(columns["crop"][rows[seen]], disturbance.recompressed, rng)
    crops = _flipped(to_pixels(torch.from_numpy(pictures)), turns[seen], 2)
    batch = EvidenceBatch(
        opinion=opinion,
        maps=maps,
        map_rows=torch.from_numpy(mapped),
        tokens=_noisy(tokens, disturbance.noise, rng),
        token_rows=token_rows,
        token_index=token_index,
        crops=_relit(crops, disturbance, rng),
        crop_rows=torch.from_numpy(seen),
    )
    return batch, torch.from_numpy(columns["truth"][rows])


def _floats(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _tokens(
    cache: ItemCache, rows: NDArray[np.int64], rates: NDArray[np.int64], spoken: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens of the batch's places `spoken`, with the place each belongs to and its own place in its item."""
    tables = cache.tokens(rows[spoken], rates[spoken])
    counts = np.array([len(table) for table in tables], np.int64)
    values = np.concatenate([np.zeros((0, cache.layout.token_width), np.float32), *tables])
    index = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    return torch.from_numpy(values), torch.from_numpy(np.repeat(spoken, counts)), torch.from_numpy(index)


def _noisy(values: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    """`values` (..., features) plus Gaussian noise in units of each feature's spread over the batch."""
    if not noise or len(values) < 2:
        return values
    drawn = torch.from_numpy(rng.standard_normal(values.shape, np.float32))
    return values + noise * values.flatten(0, -2).std(0) * drawn


def _flipped(values: Tensor, turns: NDArray[np.int64], rows_axis: int) -> Tensor:
    """`values` mirrored up-down where `turns` has bit 0, left-right where it has bit 1."""
    for bit, axis in ((1, rows_axis), (2, rows_axis + 1)):
        chosen = torch.from_numpy((turns & bit) > 0)
        if bool(chosen.any()):
            values = values.clone()
            values[chosen] = values[chosen].flip(axis)
    return values


def _recompressed(crops: UInt8Array, share: float, rng: np.random.Generator) -> UInt8Array:
    """Crops (P, S, S, 3), a `share` of them as a lossy form of a random quality leaves them."""
    for place in np.flatnonzero(rng.random(len(crops)) < share):
        suffix, option = _FORMS[rng.integers(len(_FORMS))]
        bgr = cv2.cvtColor(crops[place], cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(suffix, bgr, [option, int(rng.integers(*_QUALITIES))])
        crops[place] = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return crops


def _relit(crops: Tensor, disturbance: Disturbance, rng: np.random.Generator) -> Tensor:
    """Crops (P, 3, S, S) with brightness and contrast changed a picture, and the step's shift."""
    count, reach = len(crops), disturbance.shift_pixels
    if not count:
        return crops
    if disturbance.brightness:
        gain = torch.from_numpy(1 + disturbance.brightness * rng.uniform(-1, 1, (count, 1, 1, 1)).astype(np.float32))
        lift = torch.from_numpy(disturbance.brightness * rng.uniform(-1, 1, (count, 1, 1, 1)).astype(np.float32))
        crops = (crops * gain + lift).clamp(-1, 1)
    if reach:
        side, (dy, dx) = crops.shape[-1], rng.integers(0, 2 * reach + 1, 2)
        padded = torch.nn.functional.pad(crops, (reach, reach, reach, reach), mode="replicate")
        crops = padded[:, :, dy : dy + side, dx : dx + side]
    return crops
