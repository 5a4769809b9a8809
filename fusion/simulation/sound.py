"""The yard's noise, and speech mixed into it. Training and test noises are of different kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from fusion.errors import RecordingError, UnavailableError
from fusion.simulation.draws import Draws
from fusion.simulation.rig import SAMPLE_RATE_HZ
from fusion.simulation.sample import Split
from fusion.simulation.speech import resample
from fusion.types import Float32Array, Float64Array, Int16Array

_FILES = (".wav", ".flac", ".ogg")


def background(draws: Draws, count: int, noise_dir: Path | None = None) -> Float32Array:
    """`count` samples of noise with unit power; from a file of `noise_dir` half of the time, if one is given."""
    if noise_dir is not None and draws.chance(0.5):
        sound = _from_file(draws, count, noise_dir)
    else:
        kinds = TEST_NOISES if draws.split is Split.TEST else TRAIN_NOISES
        names = list(kinds)
        sound = kinds[names[int(draws.rng.integers(len(names)))]](draws, count)
    return np.asarray(sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9), np.float32)


def to_pcm(sound: Float32Array) -> Int16Array:
    """Samples of -1..1 as int16, clipped."""
    return np.asarray(np.clip(np.round(sound * 32767), -32768, 32767), np.int16)


def speech_gain(draws: Draws, speech: Float32Array) -> tuple[float, float]:
    """How loud speech (n,) of peak 1 and noise of unit power get: signal to noise between 0 and 20 dB."""
    level = draws.uniform(0.25, 0.7)
    power = float(np.sqrt(np.mean(speech**2))) * level
    return level, power / 10 ** (draws.uniform(0.0, 20.0) / 20)


def _coloured(draws: Draws, count: int, shape: Callable[[Float64Array], Float64Array]) -> Float64Array:
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(draws.rng.standard_normal(count)) * shape(np.maximum(frequency, 1.0))
    return np.asarray(np.fft.irfft(spectrum, count))


def _time(count: int) -> Float64Array:
    return np.arange(count) / SAMPLE_RATE_HZ


def _engine(draws: Draws, count: int) -> Float64Array:
    base, t = draws.held(30, 70), _time(count)
    hum = sum(
        (np.sin(2 * np.pi * base * k * t + draws.uniform(0, 6.3)) / k**0.7 for k in range(1, 14)), np.zeros(count)
    )
    return (
        hum * (1 + 0.2 * np.sin(2 * np.pi * 1.3 * t)) + 0.4 * _coloured(draws, count, lambda f: 1 / (1 + f / 400)) * 3
    )


def _wind(draws: Draws, count: int) -> Float64Array:
    corner = draws.held(150, 600)
    gusts = 1 + 0.6 * np.sin(2 * np.pi * draws.uniform(0.15, 0.5) * _time(count) + draws.uniform(0, 6.3))
    return _coloured(draws, count, lambda f: 1 / (1 + (f / corner) ** 1.5)) * gusts


def _beeps(draws: Draws, count: int) -> Float64Array:
    t, tone, period = _time(count), draws.held(700, 1500), draws.held(0.6, 1.2)
    on = np.mod(t + draws.uniform(0, period), period) < period * 0.45
    return np.asarray(np.sin(2 * np.pi * tone * t) * on + 0.3 * _coloured(draws, count, lambda f: 1 / (1 + f / 800)))


def _compressor(draws: Draws, count: int) -> Float64Array:
    t, rate = _time(count), draws.held(5, 14)
    pulse = np.exp(-8 * np.mod(t * rate, 1.0))
    return np.asarray(_coloured(draws, count, lambda f: f / (f + 200) / (1 + f / 2500)) * pulse)


def _hiss(draws: Draws, count: int) -> Float64Array:
    corner = draws.held(1200, 3200)
    return _coloured(draws, count, lambda f: (f / corner) / (1 + (f / corner) ** 1.6))


def _siren(draws: Draws, count: int) -> Float64Array:
    t = _time(count)
    sweep = draws.held(500, 1100) + 180 * np.sin(2 * np.pi * draws.held(0.3, 1.2) * t)
    return np.sin(2 * np.pi * np.cumsum(sweep) / SAMPLE_RATE_HZ) + 0.3 * _coloured(
        draws, count, lambda f: 1 / (1 + f / 1500)
    )


TRAIN_NOISES: dict[str, Callable[[Draws, int], Float64Array]] = {"engine": _engine, "wind": _wind, "beeps": _beeps}
TEST_NOISES: dict[str, Callable[[Draws, int], Float64Array]] = {
    "compressor": _compressor,
    "hiss": _hiss,
    "siren": _siren,
}


def _from_file(draws: Draws, count: int, folder: Path) -> Float64Array:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FILES)
    if not files:
        raise RecordingError(f"{folder}: no noise file (.wav, .flac, .ogg) in it")
    mine = files[draws.parity :: 2] or files
    sound = _load(mine[int(draws.rng.integers(len(mine)))])
    start = int(draws.rng.integers(len(sound)))
    return np.asarray(np.take(sound, np.arange(start, start + count), mode="wrap"), np.float64)


@lru_cache(maxsize=32)
def _load(path: Path) -> Float32Array:
    try:
        import soundfile
    except ImportError as error:
        raise UnavailableError(f"noise files need the package soundfile: {error}") from error
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise RecordingError(f"{path}: not a sound file that can be read: {error}") from error
    if not len(samples):
        raise RecordingError(f"{path}: holds no sound")
    return resample(samples.mean(axis=1), int(rate), SAMPLE_RATE_HZ)
