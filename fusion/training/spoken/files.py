"""A command pack made of recordings on disk, of synthetic voices, and of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fusion.errors import InputError
from fusion.recording.media.audio_reader import AudioReader
from fusion.recording.media.clips import Clip, read_clips
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.sound import background
from fusion.training.acoustics import drawn_noise, through_room
from fusion.training.spoken.clips import CLIP_SAMPLES, COMMANDS, FOLDERS, NONE, SPEECH, WordClips, folds_of
from fusion.training.spoken.pack import CommandPack, unit_power, windows
from fusion.training.spoken.sounds import placed
from fusion.training.spoken.voices import synthetic_words
from fusion.types import AudioChunk, Float32Array

FOLDS, FOLD_SEED = 5, 2026
_DELAY, _TAPS = 400, 8000
_QUIETEST = 0.003
"""Root mean square below which a stretch of other speech holds none."""
_FIRST_TEST_NOISE = 800_000
_NOTHING = WordClips((), np.zeros(0, np.int64), (), (), ())


@dataclass(frozen=True, slots=True)
class PackSources:
    """Folders of clips, and a sound file of real noise for the tests.

    `commands` holds twelve folders; `speech` are folders of speech without a command among its words that may be
    learned from; `digits` and `kitchen` are tested with and never learned from.
    """

    commands: Path
    speech: tuple[Path, ...] = ()
    digits: Path | None = None
    kitchen: Path | None = None


@dataclass(frozen=True, slots=True)
class PackSizes:
    """How much is made: synthetic commands and other words by espeak-ng and by flite, noises and rooms."""

    espeak: tuple[int, int] = (1900, 1200)
    flite: tuple[int, int] = (700, 400)
    noises: int = 80
    test_noises: int = 60
    rooms: int = 80


def make_pack(sources: PackSources, sizes: PackSizes, seed: int = 0) -> CommandPack:
    """Read, synthesise and draw all that a run hears.

    Raises `RecordingError` for a file that is no sound, `InputError` for a missing folder of clips, and
    `UnavailableError` without espeak-ng or flite.
    """
    real = _second_long(find_clips(sources.commands), "commands")
    said = [_windows_of(clip) for folder in sources.speech for clip in read_clips(folder)]
    digits = _second_long(read_clips(sources.digits), "digits") if sources.digits else _NOTHING
    noise = [drawn_noise(rng, CLIP_SAMPLES) for rng in map(np.random.default_rng, range(seed, seed + sizes.noises))]
    kinds = [background(Draws(seed + i, Split.TRAIN, stream=98), CLIP_SAMPLES) for i in range(sizes.noises // 2)]
    return CommandPack(
        real,
        tuple(folds_of(real.speakers, FOLDS, FOLD_SEED)),
        synthetic_words(sizes.espeak, sizes.flite, seed),
        reduce(WordClips.joined, said, _NOTHING),
        digits,
        unit_power([*noise, *kinds]),
        _test_noises(sizes.test_noises, sources.kitchen),
        _rooms(sizes.rooms, seed),
    )


def find_clips(folder: Path) -> list[Clip]:
    """The clips of the twelve folders.

    Raises `RecordingError` when there are none, `InputError` when a folder is missing or empty.
    """
    clips = [clip for clip in read_clips(folder) if clip.label in FOLDERS]
    if missing := [name for name in FOLDERS if not any(clip.label == name for clip in clips)]:
        raise InputError(
            f"{folder}: no clips in {', '.join(missing)}; a folder a command, and {' and '.join(FOLDERS[NONE:])}, "
            "are needed"
        )
    return clips


def load_sound(path: Path) -> Float32Array:
    """All of a sound file as 16 kHz samples (n,) in -1..1. Raises `RecordingError` for what is none."""
    payloads = (reading.payload for _, reading in AudioReader.open(path, None, None, salvage=False).readings())
    pcm = [payload.pcm for payload in payloads if isinstance(payload, AudioChunk)]
    return np.asarray(np.concatenate(pcm).astype(np.float32) / np.float32(32768), np.float32)


def _second_long(clips: Sequence[Clip], what: str) -> WordClips:
    """Each of `clips` cut to a second, or in the middle of one."""
    waves = [placed(load_sound(clip.path)[:CLIP_SAMPLES]) for clip in tqdm(clips, desc=what, unit="clip")]
    labels = [COMMANDS.index(clip.label) if clip.label in COMMANDS else NONE for clip in clips]
    kinds, speakers = tuple(clip.label for clip in clips), tuple(clip.speaker for clip in clips)
    names = tuple(f"{clip.label}/{clip.path.name}" for clip in clips)
    return WordClips(tuple(waves), np.array(labels, np.int64), kinds, speakers, names)


def _windows_of(clip: Clip) -> WordClips:
    """Stretches of a second of a longer clip that are not quiet, all of other words."""
    waves = [
        wave
        for wave in windows(load_sound(clip.path), CLIP_SAMPLES, CLIP_SAMPLES)
        if float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) > _QUIETEST
    ]
    count = len(waves)
    labels, names = np.full(count, NONE, np.int64), tuple(f"{clip.path.stem}-{i}" for i in range(count))
    return WordClips(tuple(waves), labels, (SPEECH,) * count, (clip.speaker,) * count, names)


def _test_noises(count: int, kitchen: Path | None) -> Float32Array:
    """`count` seconds of the simulation's test split's kinds; after them, every second of `kitchen`."""
    drawn = [background(Draws(_FIRST_TEST_NOISE + i, Split.TEST, stream=99), CLIP_SAMPLES) for i in range(count)]
    return unit_power(drawn + (windows(load_sound(kitchen), CLIP_SAMPLES, CLIP_SAMPLES) if kitchen else []))


def _rooms(count: int, seed: int) -> Float32Array:
    """What `count` rooms and microphones make of a click (count, _TAPS)."""
    click = np.zeros(_DELAY + _TAPS, np.float32)
    click[_DELAY] = 1.0
    responses = [through_room(click, np.random.default_rng([seed, i])) for i in range(count)]
    return np.stack(responses)[:, :_TAPS]
