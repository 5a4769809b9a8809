"""A stretch of sound → the fixed-size input of the speech encoder, and whether somebody speaks in it."""

from __future__ import annotations

import numpy as np

from fusion.errors import InputError
from fusion.types import Float32Array, Float64Array, Int16Array

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 48_000
"""Three seconds."""
_FRAME_SAMPLES = 320
_SPEECH_BAND_HZ = (250.0, 3500.0)
_FLOOR_QUANTILE = 0.2
_ABOVE_FLOOR_DB = 6.0
_LEAST_DB = -55.0
_LEAST_FRAMES = 8


def speech_window(pcm: Int16Array, samples: int = WINDOW_SAMPLES) -> Float32Array:
    """The last `samples` of `pcm` (n,) int16 as (1, samples) float32 in -1..1, left-padded with zeros."""
    if pcm.ndim != 1 or pcm.dtype != np.int16:
        raise InputError(f"sound of shape {pcm.shape} and type {pcm.dtype}; mono int16 is needed")
    window = np.zeros((1, samples), np.float32)
    tail = pcm[-samples:]
    window[0, samples - len(tail) :] = tail
    window /= 32768.0
    return window


def speech_present(pcm: Int16Array, sample_rate_hz: int = SAMPLE_RATE_HZ) -> bool:
    """Whether `pcm` (n,) int16 holds something that rises above its own background like a voice.

    An energy detector: 20 ms frames, power between 250 and 3500 Hz, the quietest fifth of the frames as the
    noise floor (in the manner of Ramírez et al., 2004); at least 160 ms must stand 6 dB above it. A steady hum
    is no speech, however loud; it errs towards yes.
    """
    return speech_span(pcm, sample_rate_hz) is not None


def speech_span(pcm: Int16Array, sample_rate_hz: int = SAMPLE_RATE_HZ) -> tuple[int, int] | None:
    """First and one past the last sample of what `speech_present` finds; None where it finds nothing."""
    frames = len(pcm) // _FRAME_SAMPLES
    if frames < _LEAST_FRAMES:
        return None
    begin = len(pcm) - frames * _FRAME_SAMPLES
    level = _band_level_db(pcm[begin:].reshape(frames, _FRAME_SAMPLES), sample_rate_hz)
    floor = max(float(np.quantile(level, _FLOOR_QUANTILE)), _LEAST_DB - _ABOVE_FLOOR_DB)
    loud = np.flatnonzero(level >= floor + _ABOVE_FLOOR_DB)
    if len(loud) < _LEAST_FRAMES:
        return None
    return begin + int(loud[0]) * _FRAME_SAMPLES, begin + (int(loud[-1]) + 1) * _FRAME_SAMPLES


def _band_level_db(frames: Int16Array, sample_rate_hz: int) -> Float64Array:
    """Power (n,) in the speech band of `frames` (n, samples), in dB of a full-scale square wave."""
    samples = frames.shape[1]
    spectrum = np.fft.rfft(frames * (np.hanning(samples) / 32768.0), axis=1)
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
    low, high = np.searchsorted(frequency, _SPEECH_BAND_HZ)
    power = np.square(np.abs(spectrum[:, low:high])).sum(1) * 2 / samples**2
    return np.asarray(10 * np.log10(power + 1e-12))
