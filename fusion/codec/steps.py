"""Coarser steps: codes as fewer symbols, whose tables follow from the profile's own by integer sums.

A uniform quantiser with a dead zone, as in video coding (Sullivan, Efficient scalar quantization of exponential and
Laplacian random variables, IEEE Trans. Information Theory, 1996): a magnitude just between two symbols takes the
smaller one, so that more codes are 0 and the others lie where the codes do, which fall off with their magnitude.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.codec.entropy import Frequencies

MAX_STEP_EXPONENT = 4


def coarser_symbols(codes: NDArray[np.int32], exponent: int) -> NDArray[np.int32]:
    """Symbols of `codes` in steps of 2^exponent, any shape: the nearest multiple, the smaller of two as near."""
    if exponent == 0:
        return codes
    magnitude = (np.abs(codes) + (1 << (exponent - 1)) - 1) >> exponent
    return np.asarray(np.sign(codes) * magnitude, np.int32)


def codes_of(symbols: NDArray[np.int32], exponent: int, clip: int) -> NDArray[np.int32]:
    """The codes that symbols stand for, within -clip..clip."""
    return np.asarray(np.clip(symbols << exponent, -clip, clip), np.int32)


def coarser_frequencies(frequencies: Frequencies, exponent: int) -> Frequencies:
    """Tables (K, 2*largest+1) of the symbols in steps of 2^exponent, from those of the codes (K, 2*clip+1)."""
    clip = frequencies.shape[1] // 2
    symbols = coarser_symbols(np.arange(-clip, clip + 1, dtype=np.int32), exponent)
    largest = int(symbols[-1])
    tables = np.zeros((len(frequencies), 2 * largest + 1), np.int32)
    for column, symbol in enumerate(symbols):
        tables[:, symbol + largest] += frequencies[:, column]
    return tables
