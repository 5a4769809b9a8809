"""What a word recogniser hears in training: words at other speeds, in other rooms, in noise; a batch at a time.

All clips, noises and rooms lie on the device that trains; a batch is drawn, sped up or slowed down, moved, put in a
room and in noise there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion.training.spoken.clips import CLIP_SAMPLES, NONE, UNKNOWN, WordClips
from fusion.training.spoken.pack import unit_power
from fusion.types import Float32Array

_SPECTRUM = 24_576
"""Points of the Fourier transforms that put sounds in rooms: a second and a half, and no more."""
_BABBLE, _TALKERS = 80, 5
_REPEATS = 3
"""How often a real word that is no command stands among what is none, against once for anything else."""


@dataclass(frozen=True, slots=True)
class Acoustics:
    """How far a training sound departs from its clip. Shares are probabilities; `speed` and `snr_db` are ranges."""

    speed: tuple[float, float] = (0.85, 1.18)
    shift_s: float = 0.12
    room: float = 0.4
    noise: float = 0.6
    snr_db: tuple[float, float] = (-2.0, 25.0)
    synthetic: float = 0.3
    """Share of synthetic words in a batch."""
    none: float = 0.25
    """Share of what is no command, in the real and in the synthetic part."""
    bare_noise: float = 0.15
    """Of what is no command, the share that is noise alone."""
    mixup: float = 0.0
    """Share of sounds that another sound of the batch is mixed into, at most as loud (Zhang et al., ICLR 2018)."""


class SoundBank:
    """Sets of clips on a device, and noises of unit power and rooms that they are put in.

    `sources` are one set of clips, or real ones and synthetic ones; clips shorter than a second stand in its middle.
    """

    def __init__(
        self, sources: Sequence[WordClips], noises: Float32Array, rooms: Float32Array, device: torch.device
    ) -> None:
        waves = [placed(wave) for clips in sources for wave in clips.waves]
        self.waves = torch.from_numpy(np.stack(waves)).to(device)  # (n, CLIP_SAMPLES)
        self.noises = torch.from_numpy(noises).to(device)  # (m, CLIP_SAMPLES)
        self.rooms = torch.fft.rfft(torch.from_numpy(rooms).to(device), _SPECTRUM)  # (r, bins)
        starts = np.cumsum([0, *(len(clips) for clips in sources)])
        rows = [start + rows for clips, start in zip(sources, starts, strict=False) for rows in _by_label(clips)]
        counts = [max(len(found), 1) for found in rows]
        table = np.zeros((len(rows), max(counts)), np.int64)
        for line, found in zip(table, rows, strict=True):
            line[: len(found)] = found
        self.table = torch.from_numpy(table).to(device)  # (sources * (NONE + 1), rows)
        self.counts = torch.tensor(counts, device=device)
        self.mixed = len(sources) > 1
        self.time = torch.arange(CLIP_SAMPLES, device=device)

    @torch.no_grad()
    def batch(self, count: int, how: Acoustics, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sounds (count, CLIP_SAMPLES) float32 of any loudness, and the shares of their labels (count, NONE + 1)."""
        draw = _Drawer(count, generator)
        none = draw.chance(how.none)
        labels = torch.where(none, NONE, draw.below(NONE))
        source = (draw.chance(how.synthetic) & self.mixed).long()
        line = source * (NONE + 1) + labels
        rows = self.table[line, (draw.share() * self.counts[line]).long()]
        waves = _resampled(self.waves[rows], draw.between(*how.speed), draw.between(-how.shift_s, how.shift_s))
        waves = torch.where(draw.chance(how.room)[:, None], self._in_rooms(waves, draw), waves)
        noise = self._noise(draw)
        bare = none & draw.chance(how.bare_noise)
        waves = torch.where(bare[:, None], 0.0, waves)
        heard = bare | draw.chance(how.noise)
        waves = torch.where(heard[:, None], in_noise(waves, noise, draw.between(*how.snr_db)), waves)
        shares = torch.nn.functional.one_hot(labels, NONE + 1).float()
        return _mixed(waves, shares, draw, how.mixup) if how.mixup else (waves, shares)

    def _in_rooms(self, waves: Tensor, draw: _Drawer) -> Tensor:
        rooms = self.rooms[draw.below(len(self.rooms))]
        heard: Tensor = torch.fft.irfft(torch.fft.rfft(waves, _SPECTRUM) * rooms, _SPECTRUM)
        return heard[:, :CLIP_SAMPLES]

    def _noise(self, draw: _Drawer) -> Tensor:
        """One noise, or two, from anywhere in them, at up to 1.5 times their speed or down to two thirds."""
        one, two = (self._turned(draw) for _ in range(2))
        return one + two * (draw.share() * draw.chance(0.3))[:, None]

    def _turned(self, draw: _Drawer) -> Tensor:
        places = self.time * draw.between(0.67, 1.5)[:, None] + draw.share()[:, None] * CLIP_SAMPLES
        return self.noises[draw.below(len(self.noises))].gather(1, places.long() % CLIP_SAMPLES)


class _Drawer:
    """Random numbers (count,) on the generator's device."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def share(self) -> Tensor:
        return torch.rand(self.count, device=self.generator.device, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        return self.share() < probability

    def between(self, low: float, high: float) -> Tensor:
        return low + (high - low) * self.share()

    def below(self, count: int) -> Tensor:
        return (self.share() * count).long().clamp_max(count - 1)


def in_noise(waves: Tensor, noises: Tensor, snr_db: Tensor) -> Tensor:
    """`waves` (B, n) with `noises` (B, n) under them: the ratio of their mean powers over all n samples is `snr_db`
    (B,). Where a wave is nothing, what is left is the noise.
    """
    powers = waves.square().mean(1, keepdim=True)
    silent = powers < 1e-12
    level = (torch.where(silent, 1.0, powers) / noises.square().mean(1, keepdim=True).clamp_min(1e-12)).sqrt()
    return waves + noises * level / torch.where(silent, 1.0, 10 ** (snr_db[:, None] / 20))


def training_noises(noises: Float32Array, real: WordClips, talk: WordClips, seed: int) -> Float32Array:
    """`noises` (m, CLIP_SAMPLES), with the silences of `real` twice and a babble of several people of `talk` at once.

    Of unit power. Only what is no command is taken from `talk`.
    """
    rng = np.random.default_rng([seed, 98])
    rows = np.flatnonzero(talk.labels == NONE)
    babble = [_babble([talk.waves[row] for row in rng.choice(rows, _TALKERS)], rng) for _ in range(_BABBLE)]
    silences = [placed(wave) for wave in real.silences()]
    return np.concatenate([noises, unit_power([*silences, *silences, *babble])])


def placed(wave: Float32Array) -> Float32Array:
    """`wave` (n,) in the middle of a second, n at most a second."""
    before = (CLIP_SAMPLES - len(wave)) // 2
    return np.pad(wave, (before, CLIP_SAMPLES - len(wave) - before))


def _babble(waves: Sequence[Float32Array], rng: np.random.Generator) -> Float32Array:
    return np.asarray(unit_power([np.roll(placed(w), int(rng.integers(CLIP_SAMPLES))) for w in waves]).sum(0))


def _by_label(clips: WordClips) -> list[np.typing.NDArray[np.int64]]:
    rows = [np.flatnonzero(clips.labels == label) for label in range(NONE + 1)]
    words = np.array([kind == UNKNOWN for kind in clips.kinds])[rows[NONE]]
    rows[NONE] = np.repeat(rows[NONE], np.where(words, _REPEATS, 1))
    return rows


def _resampled(waves: Tensor, speed: Tensor, shift_s: Tensor) -> Tensor:
    """`waves` (B, CLIP_SAMPLES) played about their middle at `speed` (B,), pitch and all, and moved by `shift_s`."""
    middle = (CLIP_SAMPLES - 1) / 2
    time = torch.arange(CLIP_SAMPLES, device=waves.device)
    places = (time - middle - shift_s[:, None] * CLIP_SAMPLES) * speed[:, None] + middle
    before = places.floor()
    within = (before >= 0) & (before < CLIP_SAMPLES - 1)
    first = before.long().clamp(0, CLIP_SAMPLES - 2)
    one, two = waves.gather(1, first), waves.gather(1, first + 1)
    return torch.where(within, torch.lerp(one, two, places - before), 0.0)


def _mixed(waves: Tensor, shares: Tensor, draw: _Drawer, probability: float) -> tuple[Tensor, Tensor]:
    """Sounds of unit power, some with another of the batch in it, and their labels mixed alike."""
    unit = waves / waves.square().mean(1, keepdim=True).clamp_min(1e-10).sqrt()
    part = (draw.share() * 0.5 * draw.chance(probability))[:, None]
    return torch.lerp(unit, unit.roll(1, 0), part), torch.lerp(shares, shares.roll(1, 0), part)
