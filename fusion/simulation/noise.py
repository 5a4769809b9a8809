"""Tileable random textures, and fast look-ups into them. Texture banks are disjoint between the splits."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from fusion.simulation.draws import Draws
from fusion.types import Float32Array

SIZE = 512
_BANK = 16
_COLUMNS = 512


@lru_cache(maxsize=_BANK * 2)
def texture(index: int) -> Float32Array:
    """Fractal noise (512, 512) of zero mean and unit deviation that tiles without seams."""
    rng = np.random.default_rng([77, index])
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    frequency[0, 0] = 1.0
    slope = 0.8 + 0.5 * rng.random()
    spectrum = np.fft.fft2(rng.standard_normal((SIZE, SIZE))) / frequency**slope
    spectrum[np.abs(frequency) < 3.0 / SIZE] = 0
    field = np.fft.ifft2(spectrum).real
    return np.asarray(field / field.std(), np.float32)


def draw_texture(draws: Draws) -> int:
    """The index of a texture of this split's bank."""
    return draws.held_choice(range(_BANK))


def smooth(index: int, u: Float32Array, v: Float32Array) -> Float32Array:
    """Noise (n,) at texel coordinates `u`, `v` (n,), bilinear and wrapped."""
    count = u.size
    rows = -(-count // _COLUMNS)
    maps = np.zeros((2, rows * _COLUMNS), np.float32)
    np.mod(u, SIZE, out=maps[0, :count])
    np.mod(v, SIZE, out=maps[1, :count])
    shaped = maps.reshape(2, rows, _COLUMNS)
    found = cv2.remap(texture(index), shaped[0], shaped[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found.reshape(-1)[:count], np.float32)


def nearest(index: int, u: Float32Array, v: Float32Array) -> Float32Array:
    """Noise (n,) at the texel under `u`, `v` (n,), wrapped."""
    return np.asarray(texture(index)[v.astype(np.int64) & (SIZE - 1), u.astype(np.int64) & (SIZE - 1)], np.float32)
