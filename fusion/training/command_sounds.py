"""What a word recogniser hears in training: words at other speeds, in other rooms, in noise; and its tests' noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.sound import background
from fusion.training.acoustics import drawn_noise, through_room
from fusion.training.command_clips import CLIP_SAMPLES, NONE, WordClips
from fusion.training.utterances import stretched
from fusion.types import Float32Array


@dataclass(frozen=True, slots=True)
class Acoustics:
    """How far a training sound departs from its clip. Shares are probabilities; `speed` and `snr_db` are ranges."""

    speed: tuple[float, float] = (0.85, 1.18)
    shift_s: float = 0.12
    room: float = 0.5
    noise: float = 0.7
    snr_db: tuple[float, float] = (-3.0, 25.0)
    synthetic: float = 0.5
    """Share of synthetic words in a batch."""
    none: float = 0.25
    """Share of what is no command, in the real and in the synthetic part."""
    bare_noise: float = 0.15
    """Of what is no command, the share that is noise alone."""


class Mixer:
    """Draws training sounds from clips and noises (m, CLIP_SAMPLES) of unit power.

    `sources` are one set of clips, or real ones and synthetic ones, of which `how.synthetic` is the share.
    """

    def __init__(self, sources: Sequence[WordClips], noises: Float32Array, how: Acoustics) -> None:
        self._how, self._noises = how, noises
        self._pools = [(clips, _by_label(clips)) for clips in sources]

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Float32Array, NDArray[np.int64]]:
        """Sounds (count, CLIP_SAMPLES) float32 and labels (count,)."""
        drawn = [self._one(rng) for _ in range(count)]
        return np.stack([sound for sound, _ in drawn]), np.array([label for _, label in drawn], np.int64)

    def _one(self, rng: np.random.Generator) -> tuple[Float32Array, int]:
        how = self._how
        synthetic = len(self._pools) > 1 and rng.random() < how.synthetic
        clips, rows = self._pools[int(synthetic)]
        label = NONE if rng.random() < how.none else int(rng.integers(NONE))
        if label == NONE and rng.random() < how.bare_noise:
            return self._noise(rng), NONE
        wave = clips.waves[int(rng.choice(rows[label]))]
        wave = _placed(stretched(wave, float(rng.uniform(*how.speed))), how.shift_s, rng)
        if rng.random() < how.room:
            wave = through_room(wave, rng)
        if rng.random() < how.noise:
            wave = in_noise(wave, self._noise(rng), float(rng.uniform(*how.snr_db)))
        return wave, label

    def _noise(self, rng: np.random.Generator) -> Float32Array:
        chosen = self._noises[int(rng.integers(len(self._noises)))]
        return np.roll(chosen, int(rng.integers(CLIP_SAMPLES)))


def in_noise(wave: Float32Array, noise: Float32Array, snr_db: float) -> Float32Array:
    """`wave` (n,) with `noise` (n,) under it: the ratio of their mean powers over all n samples is `snr_db`."""
    level = _power(wave) / _power(noise) / 10 ** (snr_db / 20)
    return np.asarray(wave + noise * np.float32(level), np.float32)


def training_noises(silences: Sequence[Float32Array], count: int, seed: int) -> Float32Array:
    """`count` noises of unit power (count, CLIP_SAMPLES), of three kinds in turn.

    One of `silences` (real, if there are any), one the simulation's training split has, one of nothing in particular.
    """
    found = []
    for index in range(count):
        draws = Draws(seed + index, Split.TRAIN, stream=98)
        if index % 3 == 0 and len(silences):
            noise = silences[int(draws.rng.integers(len(silences)))]
        elif index % 3 == 1:
            noise = background(draws, CLIP_SAMPLES)
        else:
            noise = drawn_noise(draws.rng, CLIP_SAMPLES)
        found.append(noise / np.float32(_power(noise)))
    return np.stack(found)


def _by_label(clips: WordClips) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(clips.labels == label) for label in range(NONE + 1)]


def _placed(wave: Float32Array, shift_s: float, rng: np.random.Generator) -> Float32Array:
    """`wave` (n,) in the middle of a second, but for a random shift; what does not fit is cut off."""
    shift = round(rng.uniform(-shift_s, shift_s) * CLIP_SAMPLES)
    first = (CLIP_SAMPLES - len(wave)) // 2 + shift
    if 0 < len(wave) < CLIP_SAMPLES:
        first = min(max(first, 0), CLIP_SAMPLES - len(wave))
    placed = np.zeros(CLIP_SAMPLES, np.float32)
    begin, end = max(first, 0), min(first + len(wave), CLIP_SAMPLES)
    placed[begin:end] = wave[begin - first : end - first]
    return placed


def _power(sound: Float32Array) -> float:
    return max(float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))), 1e-6)
