"""The `tokens` lane: fused tokens as int8 with one scale."""

from __future__ import annotations

import math

import numpy as np

from fusion.errors import EvidenceError, ModelError
from fusion.types import Float32Array, FusedTokens

_LEVELS = 127
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below it float32 rounds by more than half a scale; such values are as good as zero."""


def quantize_tokens(values: Float32Array) -> FusedTokens:
    """`values` (T, D) float32 as int8, symmetric, one scale for all: an error of at most half a scale.

    The fuser ends in a LayerNorm, so its tokens share one range. Raises `ModelError` on values that are
    not finite.
    """
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ModelError(f"fused tokens of shape {values.shape} are not a table of finite numbers")
    largest = float(np.abs(values).max(initial=0.0))
    scale = float(np.float32(largest / _LEVELS))  # float32, so that the wire's float holds it exactly
    scale = scale if scale >= _SMALLEST_SCALE else 1.0
    codes = np.clip(np.rint(values / np.float32(scale)), -_LEVELS, _LEVELS).astype(np.int8)
    return FusedTokens(codes, scale)


def dequantize_tokens(tokens: FusedTokens) -> Float32Array:
    """The values (T, D) float32. Raises `EvidenceError` on what `quantize_tokens` cannot have made."""
    if tokens.values.ndim != 2 or tokens.values.dtype != np.int8:
        raise EvidenceError(
            f"fused tokens of shape {tokens.values.shape} and type {tokens.values.dtype} are no int8 table"
        )
    if not (math.isfinite(tokens.scale) and 0 < tokens.scale <= float(np.finfo(np.float32).max) / 128):
        raise EvidenceError(f"fused tokens with scale {tokens.scale}; a finite number above 0 is needed")
    return tokens.values.astype(np.float32) * np.float32(tokens.scale)
