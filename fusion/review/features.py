"""Evidence → arrays: numpy only, the same function for training and serving.

The gated maps are dequantised and resampled over the item's box grown by a margin (RoIAlign, He et al., 2017,
with a triangle filter as wide as a bin). The weights are separable, so each level is two small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion.codec import Profile, decode_maps, dequantize_tokens, unpack_gates
from fusion.codec.gate import MIN_SIDE
from fusion.errors import EvidenceError
from fusion.review.crop import decode_crop
from fusion.review.layout import FeatureLayout
from fusion.review.opinion import opinion_vector
from fusion.types import Box2D, CellWindow, Evidence, Float32Array, Float64Array, FusedTokens, GatedMaps, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class ReviewFeatures:
    """One item, ready for the projector; an absent lane is None.

    `maps` are the resampled levels, finest first, float32 of `FeatureLayout.map_shapes`, the gate bit last.
    `tokens` (T, D) float32. `opinion` (G,) float32. `crop` (S, S, 3) uint8 RGB.
    """

    opinion: Float32Array
    maps: tuple[Float32Array, ...] | None = None
    tokens: Float32Array | None = None
    crop: UInt8Array | None = None


def extract_features(evidence: Evidence, profile: Profile, layout: FeatureLayout) -> ReviewFeatures:
    """Decode and check every lane of one item. Raises `EvidenceError` naming the item and what is wrong."""
    if (evidence.image_width, evidence.image_height) != (layout.image_width, layout.image_height):
        raise EvidenceError(
            f"{evidence.item}: its image is {evidence.image_width}x{evidence.image_height}; "
            f"trunk {profile.sha256[:12]} sees {layout.image_width}x{layout.image_height}"
        )
    opinion = opinion_vector(evidence, layout)
    maps = tokens = crop = None
    if evidence.maps is not None:
        maps = sample_maps(evidence.maps, evidence.box, profile, layout)
    if evidence.tokens is not None:
        tokens = _tokens(evidence, evidence.tokens, layout)
    if evidence.pixels is not None:
        crop = decode_crop(evidence.pixels, layout.crop, str(evidence.item))
    return ReviewFeatures(opinion, maps, tokens, crop)


def sample_maps(gated: GatedMaps, box: Box2D, profile: Profile, layout: FeatureLayout) -> tuple[Float32Array, ...]:
    """The maps of `ReviewFeatures`. Raises `EvidenceError` when the maps are malformed."""
    codes = decode_maps(profile, gated)
    gates = unpack_gates(profile, gated)
    sampled = []
    for index, (level, window) in enumerate(zip(profile.levels, gated.windows, strict=True)):
        cells = layout.grid * layout.parts[index]
        values = codes[index].astype(np.float32) * level.step[:, None, None]
        stack = np.concatenate([values, gates[index][None]], dtype=np.float32)
        sampled.append(_resample(stack, window, region(box, layout), level.stride, cells))
    return tuple(sampled)


def region(box: Box2D, layout: FeatureLayout) -> Box2D:
    """The part of the image that is resampled: what `item_gate` opens.

    That is the box, at least `MIN_SIDE` a side, grown by the margin each way.
    """
    half_width = max(box.x2 - box.x1, MIN_SIDE) * (0.5 + layout.margin)
    half_height = max(box.y2 - box.y1, MIN_SIDE) * (0.5 + layout.margin)
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    return Box2D(x - half_width, y - half_height, x + half_width, y + half_height)


def _resample(stack: Float32Array, window: CellWindow, area: Box2D, stride: int, cells: int) -> Float32Array:
    """`stack` (C, h, w) over `window` → (cells, cells, C) over `area`; what lies outside the window is 0."""
    if not window.cells:
        return np.zeros((cells, cells, len(stack)), np.float32)
    rows = bin_weights(area.y1, area.y2, stride, cells, window.y, window.height)
    columns = bin_weights(area.x1, area.x2, stride, cells, window.x, window.width)
    sampled = rows @ stack @ columns.T  # (C, cells, cells)
    return np.ascontiguousarray(sampled.transpose(1, 2, 0))


def bin_weights(low: float, high: float, stride: int, cells: int, start: int, count: int) -> Float32Array:
    """Triangle weights (cells, count) of bins between `low` and `high` pixels on window cells.

    Bilinear when a bin is at most one cell, and as wide as the bin when it is more, so that nothing is missed. A
    bin's weights over all cells, inside the window or not, sum to 1.
    """
    bin_cells = (high - low) / cells / stride
    centres = np.asarray(low / stride - 0.5 + (np.arange(cells) + 0.5) * bin_cells, np.float64)
    reach = max(1.0, bin_cells)
    weights = _triangle(centres[:, None] - (start + np.arange(count)), reach)
    lattice = np.rint(centres)[:, None] + np.arange(-np.ceil(reach), np.ceil(reach) + 1)
    whole = _triangle(centres[:, None] - lattice, reach).sum(1, keepdims=True)
    return np.asarray(weights / whole, np.float32)


def _triangle(distance: Float64Array, reach: float) -> Float64Array:
    return np.maximum(0.0, 1.0 - np.abs(distance) / reach)


def _tokens(evidence: Evidence, tokens: FusedTokens, layout: FeatureLayout) -> Float32Array:
    shape = tokens.values.shape
    fits = len(shape) == 2 and 1 <= shape[0] <= layout.max_tokens and shape[1] == layout.token_width
    if not fits:
        raise EvidenceError(
            f"{evidence.item}: fused tokens of shape {shape}; "
            f"the reviewer reads at most {layout.max_tokens} of width {layout.token_width}"
        )
    values = np.asarray(dequantize_tokens(tokens), np.float32)
    if not np.isfinite(values).all():
        raise EvidenceError(f"{evidence.item}: its fused tokens hold numbers that are not finite")
    return values
