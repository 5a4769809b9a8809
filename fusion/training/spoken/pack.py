"""Word clips, noises and rooms in a few small files that need nothing but numpy to be read.

Waves are kept exactly, as 16-bit samples of which neighbours' differences are compressed, or as fewer levels by a curve
like the mu-law of ITU-T G.711: 255 leave about 38 dB between a sound and its rounding noise, 63 about 26 dB, which is
enough for synthetic voices that are heard in noise anyway.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.training.spoken.clips import Fold, WordClips
from fusion.types import Float32Array, Int16Array, UInt8Array

_MU = 255.0
_FULL = 32768.0
_LEVELS = {"voices": 31, "negatives": 63, "digits": 127}
"""Levels above zero, and as many below, that a set's sounds are kept in."""


@dataclass(frozen=True, slots=True, eq=False)
class CommandPack:
    """All that a run hears.

    `real` clips and their `folds`; synthetic `voices`; `negatives`, other people's speech without a command; `digits`,
    words by speakers that nothing learns from; `noises` to learn from and `test_noises` (m, CLIP_SAMPLES) float32 of
    unit power; `rooms` (r, taps) float32 impulse responses of unit power.
    """

    real: WordClips
    folds: tuple[Fold, ...]
    voices: WordClips
    negatives: WordClips
    digits: WordClips
    noises: Float32Array
    test_noises: Float32Array
    rooms: Float32Array

    def save(self, folder: Path) -> None:
        """Write the files into `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        save_clips(folder / "real.npz", self.real)
        for name, levels in _LEVELS.items():
            save_clips(folder / f"{name}.npz", getattr(self, name), levels)
        told: dict[str, Any] = {
            f"{i}-{part}": getattr(fold, part) for i, fold in enumerate(self.folds) for part in _PARTS
        }
        told |= {name: _companded(_level(getattr(self, name))) for name in ("noises", "test_noises")}
        rooms = np.round(self.rooms / np.abs(self.rooms).max() * 32767).astype(np.int16)
        np.savez_compressed(folder / "rest.npz", rooms=rooms, **told)

    @classmethod
    def load(cls, folder: Path) -> CommandPack:
        """What `save` wrote. Raises `InputError` when a file is missing or is another."""
        clips = {name: load_clips(folder / f"{name}.npz") for name in ("real", *_LEVELS)}
        with _opened(folder / "rest.npz") as file:
            count = sum(name.endswith("-test") for name in file.files)
            folds = tuple(Fold(*(file[f"{i}-{part}"] for part in _PARTS)) for i in range(count))
            noises, test_noises = (_unit(_expanded(file[name])) for name in ("noises", "test_noises"))
            rooms = _unit(file["rooms"].astype(np.float32), 1.0)
            return cls(folds=folds, noises=noises, test_noises=test_noises, rooms=rooms, **clips)


_PARTS = ("train", "validation", "test")


def save_clips(path: Path, clips: WordClips, levels: int | None = None) -> None:
    """Write `clips` to `path` (.npz): as 16-bit samples, or in so many `levels` above zero and as many below."""
    told: dict[str, Any] = {name: np.array(getattr(clips, name)) for name in ("labels", "kinds", "speakers", "names")}
    lengths = np.array([len(wave) for wave in clips.waves], np.int64)
    joined = np.concatenate([np.zeros(0, np.float32), *clips.waves])
    if levels is None:
        pcm = np.clip(np.round(joined * _FULL), -32768, 32767).astype(np.int16)
        difference = np.diff(pcm, prepend=np.int16(0)).view(np.uint16)
        told |= {"low": (difference & 255).astype(np.uint8), "high": (difference >> 8).astype(np.uint8)}
    else:
        told |= {"companded": _companded(joined, levels), "levels": np.array(levels)}
    np.savez_compressed(path, lengths=lengths, **told)


def load_clips(path: Path) -> WordClips:
    """What `save_clips` wrote. Raises `InputError` for a file that is missing or is another."""
    with _opened(path) as file:
        if "low" in file.files:
            difference = file["low"] | (file["high"].astype(np.uint16) << 8)
            pcm: Int16Array = np.cumsum(difference, dtype=np.uint16).view(np.int16)
            joined = np.asarray(pcm.astype(np.float32) / np.float32(_FULL), np.float32)
        else:
            joined = _expanded(file["companded"], int(file["levels"]))
        waves = np.split(joined, np.cumsum(file["lengths"])[:-1])
        told = [tuple(map(str, file[name])) for name in ("kinds", "speakers", "names")]
        return WordClips(tuple(waves), file["labels"], *told)


def windows(sound: Float32Array, samples: int, hop: int) -> list[Float32Array]:
    """Stretches of `samples` of `sound` (n,), `hop` apart; a shorter sound is one stretch."""
    return [sound[i : i + samples] for i in range(0, max(len(sound) - samples, 0) + 1, hop)]


def unit_power(sounds: Sequence[Float32Array]) -> Float32Array:
    """`sounds`, each (n,), as (m, n) of root mean square 1."""
    return _unit(np.stack(sounds))


def _unit(sounds: Float32Array, length: float = 0.0) -> Float32Array:
    """Rows of mean square 1, or of square sum `length`."""
    total = np.square(sounds, dtype=np.float64).sum(1, keepdims=True)
    power = np.sqrt(total / (length or sounds.shape[1]))
    return np.asarray(sounds / np.maximum(power, 1e-9), np.float32)


def _level(sounds: Float32Array) -> Float32Array:
    """Rows of peak 1."""
    return np.asarray(sounds / np.maximum(np.abs(sounds).max(1, keepdims=True), 1e-9), np.float32)


def _companded(sound: Float32Array, levels: int = 127) -> UInt8Array:
    curve = np.sign(sound) * np.log1p(_MU * np.abs(sound).clip(max=1)) / np.log1p(_MU)
    return np.asarray(np.round(curve * levels) + 128, np.uint8)


def _expanded(stored: UInt8Array, levels: int = 127) -> Float32Array:
    curve = (stored.astype(np.float32) - 128) / levels
    return np.asarray(np.sign(curve) * np.expm1(np.abs(curve) * np.log1p(_MU)) / _MU, np.float32)


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a file of a command pack ({error}); pack it again") from None
