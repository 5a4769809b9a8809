"""Sound of ROS's `audio_common`: raw 16-bit mono at 16 kHz, and how to tell that it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.types import AudioChunk

RATE_HZ = 16_000
_BYTES_PER_S = 2 * RATE_HZ
_TOLERANCE = 0.25
"""How far from 32,000 bytes a second a stream without a description may be; 8 kHz and 44.1 kHz are farther off."""
LOOKED_AT = 50


def why_no_sound(info: Any | None, chunks: Sequence[tuple[int, bytes]]) -> str:
    """Why a topic is not read as sound; empty when it is.

    `info` is the `AudioInfo` beside it. Without one, `chunks` (the first 50 times in ns and data) must come at the
    rate of raw 16-bit mono sound at 16 kHz: a compressed stream is several times thinner.
    """
    if info is not None:
        form = f"{info.coding_format}, {info.sample_format}, {info.sample_rate} Hz, {info.channels} channels"
        raw = info.coding_format.lower() in {"wave", "wav", "pcm", "raw"}
        right = (info.sample_format.upper(), info.sample_rate, info.channels) == ("S16LE", RATE_HZ, 1)
        return "" if raw and right else f"{form}; raw S16LE at {RATE_HZ} Hz, 1 channel, is read"
    rate = _bytes_per_s(chunks)
    if rate is None:
        return "no AudioInfo beside it, and too short to tell what it is"
    if abs(rate / _BYTES_PER_S - 1) > _TOLERANCE or any(len(data) % 2 for _, data in chunks):
        return f"no AudioInfo beside it, and {rate:.0f} bytes a second where raw 16-bit sound at {RATE_HZ} Hz has 32000"
    return ""


def read_sound(data: Any) -> AudioChunk:
    """A chunk of raw sound; raises `InputError` for half a sample."""
    raw = bytes(data)
    if len(raw) % 2:
        raise InputError(f"sound of {len(raw)} bytes, which are no 16-bit samples")
    return AudioChunk(np.frombuffer(raw, "<i2").astype(np.int16), RATE_HZ)


def _bytes_per_s(chunks: Sequence[tuple[int, bytes]]) -> float | None:
    if len(chunks) < 3:
        return None
    seconds = (chunks[-1][0] - chunks[0][0]) * 1e-9
    return sum(len(data) for _, data in chunks[:-1]) / seconds if seconds > 0 else None
