"""Sound of any rate as chunks of 100 ms of 16-bit sound at 16 kHz, with memory bounded by a block.

Resampling is a windowed-sinc polyphase filter with a Kaiser window (Smith, "Digital Audio Resampling"; Crochiere and
Rabiner, "Multirate Digital Signal Processing", 1983): flat up to 0.43 of the lower of the two rates, and 90 dB down
from half of it on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fusion.errors import InputError
from fusion.types import Float64Array, Int16Array

RATE_HZ = 16_000
CHUNK_SAMPLES = 1_600
CHUNK_NS = 100_000_000
LOWEST_HZ, HIGHEST_HZ = 1_000, 768_000
_ZEROS = 48
"""Zero crossings of the sinc on each side."""
_BETA = 9.0
_ROLL_OFF = 0.935
"""Where the filter is 6 dB down, as a share of half the lower rate; half the transition band lies on each side."""
_TABLE_PHASES = 1_024


@dataclass(frozen=True, slots=True, eq=False)
class _Filter:
    """Output k lies at the input's sample k * `down` / `up` and is made of `2 * side` samples around it."""

    up: int
    down: int
    side: int
    table: Float64Array | None

    def first_input(self, output: int) -> int:
        """The first input sample (it may be before the sound) that an output is made of."""
        return output * self.down // self.up - self.side + 1

    def apply(self, samples: Float64Array, offset: int, output: int, count: int) -> Float64Array:
        """Outputs from `output` on, of `samples` that begin with the input's sample `offset`."""
        places = np.arange(output, output + count, dtype=np.int64) * self.down
        base = places // self.up - self.side + 1 - offset
        phases = places % self.up
        windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * self.side)[base]
        weights = self.weights(phases) if self.table is None else self.table[phases]
        return np.asarray(np.einsum("nt,nt->n", windows, weights), np.float64)

    def weights(self, phases: np.ndarray) -> Float64Array:
        """(len(phases), 2 * side): what each sample counts; a row adds up to 1."""
        ratio = min(1.0, self.up / self.down)
        away = (np.arange(2 * self.side) - self.side + 1)[None] - phases[:, None] / self.up
        inside = np.clip(1 - (away * ratio / _ZEROS) ** 2, 0, None)
        found = np.sinc(away * ratio * _ROLL_OFF) * np.i0(_BETA * np.sqrt(inside)) * (inside > 0)
        return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


@lru_cache(maxsize=8)
def _filter(rate_hz: int) -> _Filter:
    common = math.gcd(rate_hz, RATE_HZ)
    up, down = RATE_HZ // common, rate_hz // common
    side = math.ceil(_ZEROS * max(1.0, down / up))
    bare = _Filter(up, down, side, None)
    return bare if up > _TABLE_PHASES else _Filter(up, down, side, bare.weights(np.arange(up)))


def check_rate(rate_hz: int) -> None:
    """Raise `InputError` for a sampling rate that is not read."""
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise InputError(f"sound at {rate_hz} Hz; {LOWEST_HZ} to {HIGHEST_HZ} Hz are read")


def chunk_count(samples: int, rate_hz: int) -> int:
    """How many chunks `samples` samples at `rate_hz` make; the last one may be shorter."""
    return -(-_outputs(samples, rate_hz) // CHUNK_SAMPLES)


def first_sample(chunk: int, rate_hz: int) -> int:
    """The first sample at `rate_hz` that is needed to make a chunk, counted from 0."""
    output = chunk * CHUNK_SAMPLES
    return output if rate_hz == RATE_HZ else max(0, _filter(rate_hz).first_input(output))


def chunks_of(blocks: Iterable[Float64Array], rate_hz: int, first_chunk: int = 0) -> Iterator[Int16Array]:
    """Chunks (1600,) int16 from `first_chunk` on; the last one may be shorter.

    `blocks` (n,) are mono in -1..1 at `rate_hz`, and begin with the sample `first_sample(first_chunk, rate_hz)`.
    Louder samples are clipped. Sound at 16 kHz is not filtered: 16-bit samples come out as they went in.
    """
    for chunk in _as_is(blocks) if rate_hz == RATE_HZ else _resampled(blocks, rate_hz, first_chunk):
        yield np.clip(np.rint(chunk * 32768), -32768, 32767).astype(np.int16)


def _outputs(samples: int, rate_hz: int) -> int:
    return -(-samples * RATE_HZ // rate_hz)


def _as_is(blocks: Iterable[Float64Array]) -> Iterator[Float64Array]:
    held = np.zeros(0)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= CHUNK_SAMPLES:
            yield held[:CHUNK_SAMPLES]
            held = held[CHUNK_SAMPLES:]
    if len(held):
        yield held


def _resampled(blocks: Iterable[Float64Array], rate_hz: int, first_chunk: int) -> Iterator[Float64Array]:
    kernel = _filter(rate_hz)
    output = first_chunk * CHUNK_SAMPLES
    offset = kernel.first_input(output)
    held = np.zeros(max(0, -offset))  # silence before the sound
    for block in blocks:
        held = np.concatenate([held, block])
        while offset + len(held) >= kernel.first_input(output + CHUNK_SAMPLES - 1) + 2 * kernel.side:
            yield kernel.apply(held, offset, output, CHUNK_SAMPLES)
            output += CHUNK_SAMPLES
            used = kernel.first_input(output) - offset
            held, offset = held[used:], offset + used
    end = _outputs(offset + len(held), rate_hz)
    held = np.concatenate([held, np.zeros(2 * kernel.side)])
    while output < end:
        count = min(CHUNK_SAMPLES, end - output)
        yield kernel.apply(held, offset, output, count)
        output += count
