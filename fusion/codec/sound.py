"""The `sound` lane: a WAV file of G.711 mu-law, a byte a sample, which every browser plays.

Smaller codings (Opus, FLAC) need compiled libraries that devices do not have; this one is a table, and hears speech as
a telephone does, at twice its bandwidth.
"""

from __future__ import annotations

import struct

import numpy as np

from fusion.errors import EvidenceError, InputError
from fusion.types import Int16Array, SoundClip, UInt8Array

ENCODING = "wav-mulaw"
SAMPLE_RATES_HZ = (8_000, 48_000)
"""The least and the most."""

MAX_SAMPLES = 65_000
"""Four seconds at 16 kHz."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")
_MU_LAW = 7
_BIAS = 132
_CLIP = 32635


def encode_sound(pcm: Int16Array, sample_rate_hz: int, start_ns: int) -> SoundClip:
    """`pcm` (n,) int16, mono; of more than `MAX_SAMPLES` the last. `start_ns` is the time of the first sample of `pcm`.

    Raises `InputError` for no sound, another type, and a rate that is not within `SAMPLE_RATES_HZ`.
    """
    if pcm.ndim != 1 or pcm.dtype != np.int16 or not len(pcm):
        raise InputError(f"sound of shape {pcm.shape} and type {pcm.dtype}; mono int16 is needed")
    if not SAMPLE_RATES_HZ[0] <= sample_rate_hz <= SAMPLE_RATES_HZ[1]:
        raise InputError(f"sound at {sample_rate_hz} Hz; {SAMPLE_RATES_HZ[0]} to {SAMPLE_RATES_HZ[1]} can be sent")
    cut = max(0, len(pcm) - MAX_SAMPLES)
    start_ns += round(cut * 1e9 / sample_rate_hz)
    samples = _compress(pcm[cut:]).tobytes()
    return SoundClip(ENCODING, _header(len(samples), sample_rate_hz) + samples, sample_rate_hz, start_ns)


def decode_sound(sound: SoundClip) -> Int16Array:
    """The samples (n,) int16. Raises `EvidenceError` for anything but the file that `encode_sound` makes."""
    count = len(sound.encoded) - _HEADER.size
    low, high = SAMPLE_RATES_HZ
    if sound.encoding != ENCODING or not 1 <= count <= MAX_SAMPLES or not low <= sound.sample_rate_hz <= high:
        raise EvidenceError(
            f"{len(sound.encoded)} bytes of sound as {sound.encoding[:16]!r} at {sound.sample_rate_hz} Hz; "
            f"a {ENCODING} file of 1 to {MAX_SAMPLES} samples at {low} to {high} Hz is needed"
        )
    if sound.encoded[: _HEADER.size] != _header(count, sound.sample_rate_hz):
        raise EvidenceError("the sound does not begin as a WAV file of mu-law of its own length and rate")
    return _EXPANDED[np.frombuffer(sound.encoded, np.uint8, offset=_HEADER.size)]


def _header(samples: int, rate_hz: int) -> bytes:
    """What stands before `samples` bytes: RIFF, format, the `fact` that coded sound must have, data."""
    return _HEADER.pack(
        b"RIFF", _HEADER.size - 8 + samples, b"WAVE",
        b"fmt ", 18, _MU_LAW, 1, rate_hz, rate_hz, 1, 8, 0,
        b"fact", 4, samples, b"data", samples,
    )  # fmt: skip


def _compress(pcm: Int16Array) -> UInt8Array:
    """G.711 mu-law: sign, three bits of exponent, four of mantissa, all inverted."""
    wide = pcm.astype(np.int32)
    sign = np.where(wide < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(wide), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return np.asarray(~(sign | (exponent << 4) | mantissa) & 0xFF, np.uint8)


def _expanded() -> Int16Array:
    """What each of the 256 codes stands for."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + _BIAS << ((code >> 4) & 7)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_EXPANDED = _expanded()
