"""rANS over static tables: from the integer symbols on, the bytes are the same on every machine.

The coder is `constriction`'s 64-bit rANS with 32-bit words and 24-bit probabilities (Duda et al., 2015). A
table of integer frequencies is scaled to a sum of 2^24 in integer arithmetic. `constriction` takes weights
as floats, gives each symbol one unit and shares out the rest; handing it `share - 1`, whose sum is exactly
that rest, leaves nothing to round, so no float enters the code.

`constriction` is compiled; a device for which it cannot be had sends zstd frames instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

try:
    import constriction
except ImportError:  # a platform without the compiled coder
    constriction = None

from fusion.codec.frame import pack_frame, unpack_frame
from fusion.errors import EvidenceError, ModelError
from fusion.types import Int8Array

Frequencies: TypeAlias = NDArray[np.int32]
SymbolModel: TypeAlias = Any
"""One channel's `constriction` model; the library is untyped."""

HAS_RANS = constriction is not None
PRECISION_BITS = 24
WORD_BYTES = 4
_FITTED_TOTAL = 1 << 16
_PRIOR_SAMPLES = 16.0


def check_frequencies(frequencies: Frequencies) -> None:
    """Raise `ModelError` unless `frequencies` (K, S) has only rows of integers >= 1 with a sum of at most 2^24."""
    if frequencies.ndim != 2 or not np.issubdtype(frequencies.dtype, np.integer) or frequencies.shape[1] < 2:
        raise ModelError(f"frequency tables of shape {frequencies.shape} and type {frequencies.dtype} are none")
    wide = frequencies.astype(np.int64)
    if wide.min(initial=1) < 1 or wide.sum(1).max(initial=0) > 1 << PRECISION_BITS:
        raise ModelError(f"frequency tables need every entry >= 1 and a sum of at most 2^{PRECISION_BITS} a channel")


def scaled_frequencies(frequencies: Frequencies) -> NDArray[np.int64]:
    """`frequencies` (K, S) scaled to rows of sum 2^24, every entry >= 1; the largest takes what rounding leaves."""
    wide = frequencies.astype(np.int64)
    scaled = (wide << PRECISION_BITS) // wide.sum(1, keepdims=True)
    scaled[np.arange(len(scaled)), scaled.argmax(1)] += (1 << PRECISION_BITS) - scaled.sum(1)
    return np.asarray(scaled)


def symbol_models(frequencies: Frequencies) -> tuple[SymbolModel, ...]:
    """One model a channel of `frequencies` (K, S); none of use where the coder is not to be had."""
    if not HAS_RANS:
        return (None,) * len(frequencies)
    categorical = constriction.stream.model.Categorical
    return tuple(categorical((row - 1).astype(np.float64), perfect=False) for row in scaled_frequencies(frequencies))


def encode_symbols(channels: Sequence[tuple[SymbolModel, NDArray[np.int32]]]) -> bytes:
    """The bytes of every channel's symbols (n,), in order; little-endian 32-bit words."""
    coder = constriction.stream.stack.AnsCoder()
    for model, symbols in reversed(channels):
        coder.encode_reverse(symbols, model)
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4", copy=False).tobytes()


def max_encoded_bytes(symbols: int) -> int:
    """The most bytes `symbols` symbols can take: one never adds more than 24 bits to the coder's state.

    There is no least: a coder that starts at state 0 takes a run of the table's first symbol for nothing.
    """
    return WORD_BYTES * (-(-symbols * PRECISION_BITS // (8 * WORD_BYTES)) + 1)


def decode_symbols(data: bytes, channels: Sequence[tuple[SymbolModel, int]]) -> list[NDArray[np.int32]]:
    """Read what `encode_symbols` wrote: `channels` says how many symbols each model stands for.

    Raises `EvidenceError` when `data` is longer than that many symbols can be, or is not used up by them.
    """
    total = sum(count for _, count in channels)
    if not HAS_RANS:
        raise EvidenceError("the symbols are rANS words, and this machine lacks the package constriction to read them")
    if len(data) % WORD_BYTES or len(data) > max_encoded_bytes(total):
        raise EvidenceError(f"{len(data)} bytes of symbols; {total} symbols are whole words of at most that many bits")
    try:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32))
    except ValueError as error:
        raise EvidenceError(f"the symbols are not a rANS stream: {error}") from None
    decoded = [coder.decode(model, count) for model, count in channels]
    if not coder.is_empty():
        raise EvidenceError("the symbols do not end where the gate says they do")
    return decoded


def pack_symbols(channels: Sequence[NDArray[np.int32]]) -> bytes:
    """Symbols (n,) from -128 to 127 of every channel as one zstd frame of int8."""
    data = np.concatenate([np.zeros(0, np.int32), *channels]).astype(np.int8).tobytes()
    return pack_frame(data) if data else b""


def max_packed_bytes(symbols: int) -> int:
    """The most bytes of a zstd frame of `symbols` symbols: what cannot be compressed, and the frame around it."""
    return symbols + (symbols >> 8) + 64


def unpack_symbols(data: bytes, counts: Sequence[int]) -> list[NDArray[np.int32]]:
    """Read what `pack_symbols` wrote; `counts` are the channels' numbers of symbols.

    Raises `EvidenceError` for anything but one frame of exactly that many.
    Allocates those and at most a window of 1 MiB.
    """
    total = sum(counts)
    if not total and not data:
        return [np.zeros(0, np.int32) for _ in counts]
    found = unpack_frame(data, total, "symbols")
    values = np.frombuffer(found, np.int8).astype(np.int32)
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []


def fit_frequencies(codes: Int8Array, clip: int) -> Frequencies:
    """Static tables (K, 2*clip+1), every entry >= 1, from a sample of `codes` (n, K); codes are clipped to ±clip.

    The counts are smoothed by a few samples' worth of a two-sided geometric distribution with the same mean
    magnitude, so that tails never seen cost what their distance suggests.
    """
    if codes.ndim != 2 or not len(codes) or not 1 <= clip <= 127:
        raise ModelError(f"codes of shape {codes.shape} with clip {clip} cannot fit frequency tables")
    clipped = np.clip(codes.astype(np.int64), -clip, clip)
    distance = np.abs(np.arange(-clip, clip + 1))
    tables = np.empty((codes.shape[1], 2 * clip + 1), np.int32)
    for channel, values in enumerate(clipped.T):
        counts = np.bincount(values + clip, minlength=2 * clip + 1)
        mean = max(float(np.abs(values).mean()), 1e-3)
        ratio = mean / (1.0 + np.sqrt(1.0 + mean * mean))  # E|x| = 2r / (1 - r^2) of P(x) ~ r^|x|
        prior = ratio**distance
        weight = counts + _PRIOR_SAMPLES * prior / prior.sum()
        tables[channel] = np.maximum(1, np.rint(weight * ((_FITTED_TOTAL - len(weight)) / weight.sum())))
    return tables


def empirical_bits(codes: Int8Array, frequencies: Frequencies) -> float:
    """Mean bits a symbol of `codes` (n, K) under the tables (K, 2*clip+1): their cross-entropy."""
    clip = frequencies.shape[1] // 2
    index = np.clip(codes.astype(np.int64), -clip, clip) + clip
    share = scaled_frequencies(frequencies) / (1 << PRECISION_BITS)
    return float(-np.log2(np.take_along_axis(share.T, index, axis=0)).mean())
