"""Rooms, microphones and noises that no simulation lists: speech and noise made different every time they are heard.

Ears that only know the training split's three noises and twenty voices fail in others. So noise is drawn from a family
that contains nothing in particular: any spectrum, any beat, sliding tones. Speech goes through any room and any
microphone. The test split's hammering strokes and sirens are left out of the family on purpose; its hiss is one
spectrum among the random ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fusion.simulation.rig import SAMPLE_RATE_HZ
from fusion.types import Float32Array, Float64Array

_KNOTS = 8
_LOW_HZ, _HIGH_HZ = 60.0, 8000.0


def drawn_noise(rng: np.random.Generator, count: int) -> Float32Array:
    """Noise (count,) of unit power: a random spectrum with a random beat, now and then with random tones."""
    sound = _beaten(rng, _filtered(rng.standard_normal(count), _curve(rng, count, 18.0)))
    while rng.random() < 0.4:
        tone = _beaten(rng, _tone(rng, count))
        sound = sound / _power(sound) + tone / _power(tone) * rng.uniform(0.2, 2.0)
    return np.asarray(sound / _power(sound), np.float32)


def through_room(wave: Float32Array, rng: np.random.Generator) -> Float32Array:
    """`wave` (n,) as a random microphone hears it in a random room: (n,), about as loud.

    The microphone tilts and notches the spectrum by some decibels. The room is noise that dies away (an exponentially
    decaying impulse response, Moorer, 1979), 50 to 500 ms to minus 60 dB.
    """
    count = len(wave)
    if not count:
        return wave
    size = -(-count // 8000) * 8000 + SAMPLE_RATE_HZ // 2  # a whole number of half seconds is a fast transform
    heard = np.fft.rfft(wave, size)
    if rng.random() < 0.6:
        heard = heard * _curve(rng, size, 6.0)
    if rng.random() < 0.5:
        heard = heard * np.fft.rfft(_room(rng), size)
    sound = np.fft.irfft(heard, size)[:count]
    return np.asarray(sound * (_power(wave) / _power(sound)), np.float32)


def _room(rng: np.random.Generator) -> Float64Array:
    """An impulse response: the direct sound, then its tail."""
    length = SAMPLE_RATE_HZ // 2
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(length) * 10 ** (-3 * seconds / rng.uniform(0.05, 0.5))
    tail *= rng.uniform(0.1, 0.9) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(tail)


def _curve(rng: np.random.Generator, count: int, deviation_db: float) -> Float64Array:
    """Gains (count // 2 + 1,): random decibels at random places of the logarithmic frequency axis, lines between."""
    places = np.sort(rng.uniform(0, 1, _KNOTS))
    decibels = rng.normal(0, deviation_db, _KNOTS) + rng.normal(0, deviation_db) * places
    return np.asarray(10 ** (np.interp(_places(count), places, decibels) / 20))


@lru_cache(maxsize=64)
def _places(count: int) -> Float64Array:
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    share = np.log(np.maximum(frequency, _LOW_HZ) / _LOW_HZ) / np.log(_HIGH_HZ / _LOW_HZ)
    return np.asarray(share)


def _filtered(sound: Float64Array, gains: Float64Array) -> Float64Array:
    return np.asarray(np.fft.irfft(np.fft.rfft(sound) * gains, len(sound)))


def _beaten(rng: np.random.Generator, sound: Float64Array) -> Float64Array:
    """`sound` that is steady, comes and goes in waves, or is on and off."""
    kind, rate = rng.integers(3), np.exp(rng.uniform(np.log(0.3), np.log(20.0)))
    phase = np.mod(np.arange(len(sound)) / SAMPLE_RATE_HZ * rate + rng.random(), 1.0)
    if kind == 1:
        return np.asarray(sound * (1 + rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * phase)))
    if kind == 2:
        return np.asarray(sound * np.where(phase < rng.uniform(0.2, 0.8), 1.0, rng.uniform(0, 0.3)))
    return sound


def _tone(rng: np.random.Generator, count: int) -> Float64Array:
    """A tone with overtones whose pitch slides from one height to another."""
    time = np.arange(count) / SAMPLE_RATE_HZ
    base = np.exp(rng.uniform(np.log(40.0), np.log(3000.0)))
    pitch = base * (1 + rng.uniform(-0.5, 0.5) * time / time[-1])
    turn = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    last = min(12, int(_HIGH_HZ / 2 / base) + 1)
    fall = rng.uniform(0.3, 2.0)
    return np.asarray(sum((np.sin(k * turn) / k**fall for k in range(1, last + 1)), np.zeros(count)))


def _power(sound: Float32Array | Float64Array) -> float:
    return max(float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))), 1e-9)
