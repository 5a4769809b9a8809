"""Spoken words, by espeak-ng. Voices, speeds and pitches of the test split are never heard in training."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fusion.errors import UnavailableError
from fusion.simulation.draws import Draws
from fusion.simulation.rig import SAMPLE_RATE_HZ
from fusion.simulation.sample import Split
from fusion.types import Float32Array

TRAIN_VOICES = (
    "en-us",
    "en-us+m1",
    "en-us+m3",
    "en-us+m5",
    "en-us+m7",
    "en-us+f1",
    "en-us+f3",
    "en-us+f4",
    "en-gb",
    "en-gb+m1",
    "en-gb+m3",
    "en-gb+f1",
    "en-gb+f3",
    "en-gb-x-gbclan+m5",
    "en-gb-x-gbclan+f4",
    "en-029+m7",
    "en-029+f1",
    "en-us+andy",
    "en-gb+steph",
    "en-us+linda",
)
TEST_VOICES = (
    "en-gb-scotland+m2",
    "en-gb-scotland+f2",
    "en-gb-x-rp+m4",
    "en-gb-x-rp+f5",
    "en-us-nyc+m6",
    "en-us-nyc+f2",
    "en-gb-x-gbcwmd+m8",
    "en-gb-x-gbcwmd+f5",
)
SPEEDS, PITCHES = (125, 189), (25, 73)
"""Ranges [low, high) whose odd bins are the test split's."""
_FULL_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """An espeak-ng voice with its speed in words a minute and its pitch, 0..99."""

    voice: str
    speed: int
    pitch: int


def draw_speaker(draws: Draws) -> Speaker:
    """A speaker of this split."""
    voices = TEST_VOICES if draws.split is Split.TEST else TRAIN_VOICES
    voice = voices[int(draws.rng.integers(len(voices)))]
    return Speaker(voice, draws.held_integer(*SPEEDS), draws.held_integer(*PITCHES))


@lru_cache(maxsize=512)
def say(text: str, speaker: Speaker) -> Float32Array:
    """`text` as 16 kHz samples (n,) of peak 1, silence cut off. Raises `UnavailableError` without espeak-ng."""
    command = ["espeak-ng", "-v", speaker.voice, "-s", str(speaker.speed), "-p", str(speaker.pitch), "--stdout", text]
    try:
        wave = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    except FileNotFoundError:
        raise UnavailableError(
            "the simulation's speech needs the program espeak-ng; install the package of that name"
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"espeak-ng could not speak with voice {speaker.voice!r}: {error}") from error
    start = wave.find(b"data") + 8
    if start < 8 or len(wave) < start + 2:
        raise UnavailableError(f"espeak-ng gave no sound for voice {speaker.voice!r}")
    rate = int.from_bytes(wave[24:28], "little")
    body = wave[start : start + (len(wave) - start) // 2 * 2]
    samples = np.frombuffer(body, "<i2").astype(np.float32) / _FULL_SCALE
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    samples = resample(samples[loud[0] : loud[-1] + 1], rate, SAMPLE_RATE_HZ) if len(loud) else samples[:0]
    return np.asarray(samples / max(float(np.abs(samples).max(initial=0)), 1e-6), np.float32)


def resample(samples: Float32Array, rate: int, target: int) -> Float32Array:
    """Samples (n,) at another rate, through the spectrum, padded so that the ends do not meet."""
    if rate == target:
        return samples
    pad = rate // 10
    padded = np.pad(samples, (pad, pad + (-len(samples)) % rate))
    padded = np.pad(padded, (0, (-len(padded)) % rate))
    count = len(padded) * target // rate
    spectrum = np.fft.rfft(padded)
    kept = np.zeros(count // 2 + 1, np.complex128)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    whole = np.fft.irfft(kept, count) * (count / len(padded))
    first = pad * target // rate
    return np.asarray(whole[first : first + len(samples) * target // rate], np.float32)
