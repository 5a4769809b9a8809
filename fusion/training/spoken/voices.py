"""Single words in synthetic voices: espeak-ng's formants, and flite's voices built from people's recordings."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fusion.errors import UnavailableError
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.speech import Speaker, resample, say
from fusion.training.spoken.clips import CLIP_SAMPLES, COMMANDS, NONE, OTHER_WORDS, WordClips
from fusion.training.utterances import any_speaker
from fusion.types import Float32Array

FLITE_VOICES = ("awb", "rms", "slt", "kal16")
"""Voices of flite 2.2 at 16 kHz."""
_ENDINGS = ("", "", "?", "!", ",")
"""What follows a word changes its melody."""
_STREAM = 97


def synthetic_words(espeak: tuple[int, int], flite: tuple[int, int], seed: int = 0) -> WordClips:
    """So many commands and so many other words by each program, every word about as often.

    `speakers` are voices, with the program's name before them. Raises `UnavailableError` without one of the programs.
    """
    parts = [
        _said(words, count, seed + 100_000 * place, flite=place >= 2)
        for place, (words, count) in enumerate(zip((COMMANDS, OTHER_WORDS) * 2, (*espeak, *flite), strict=True))
    ]
    spoken = [word for part in parts for word in part]
    kinds = tuple(word for word, _, _ in spoken)
    labels = np.array([COMMANDS.index(word) if word in COMMANDS else NONE for word in kinds], np.int64)
    speakers = tuple(voice for _, voice, _ in spoken)
    return WordClips(tuple(wave for _, _, wave in spoken), labels, kinds, speakers, kinds)


def _said(words: Sequence[str], count: int, seed: int, *, flite: bool) -> Iterator[tuple[str, str, Float32Array]]:
    """Words, voices and waves (n,) float32 of peak 1, at most a second long."""
    for index in tqdm(range(count), desc="flite" if flite else "espeak-ng", unit="word"):
        draws = Draws(seed + index, Split.TRAIN, stream=_STREAM)
        word = words[index % len(words)]
        voice, wave = _flite(word, draws) if flite else _espeak(word, draws)
        yield word, voice, wave[:CLIP_SAMPLES]


def _espeak(word: str, draws: Draws) -> tuple[str, Float32Array]:
    speaker: Speaker = any_speaker(draws)
    return f"espeak-ng {speaker.voice}", say(word + draws.rng.choice(_ENDINGS), speaker)


def _flite(word: str, draws: Draws) -> tuple[str, Float32Array]:
    voice = FLITE_VOICES[int(draws.rng.integers(len(FLITE_VOICES)))]
    stretch, shift = draws.rng.uniform(0.7, 1.5), draws.rng.uniform(0.8, 1.25)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
        command += ["--setf", f"f0_shift={shift:.3f}", "-t", word + draws.rng.choice(_ENDINGS), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        except FileNotFoundError:
            raise UnavailableError("flite is not installed; install the package of that name") from None
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"flite could not speak with voice {voice!r}: {error}") from error
        return f"flite {voice}", _trimmed(path.read_bytes())


def _trimmed(file: bytes) -> Float32Array:
    """The sound of a `.wav` file at 16 kHz, of peak 1, without the silence around it."""
    start, rate = file.find(b"data") + 8, int.from_bytes(file[24:28], "little")
    body = file[start : start + (len(file) - start) // 2 * 2]
    samples = np.frombuffer(body, "<i2").astype(np.float32)
    samples /= max(float(np.abs(samples).max(initial=0)), 1.0)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    return resample(samples[loud[0] : loud[-1] + 1], rate, CLIP_SAMPLES) if len(loud) else samples[:0]
