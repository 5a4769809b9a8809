"""Clips of single spoken words, real and synthetic, and who is tested when.

The real ones lie in a folder a word, as in Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech
Recognition", 2018: the ten commands, `_unknown_` for other words, `_silence_` for what is no speech. The synthetic ones
are said by espeak-ng.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.encoders.speech import SAMPLE_RATE_HZ
from fusion.errors import InputError
from fusion.recording.media.audio_reader import AudioReader
from fusion.recording.media.clips import Clip, read_clips, split_by_speaker
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.speech import Speaker, draw_speaker, say
from fusion.training.utterances import any_speaker
from fusion.types import AudioChunk, Float32Array

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
NONE = len(COMMANDS)
"""The label of what is none of the commands."""
UNKNOWN, SILENCE = "_unknown_", "_silence_"
FOLDERS = (*COMMANDS, UNKNOWN, SILENCE)
CLIP_SAMPLES = SAMPLE_RATE_HZ
"""Samples of a clip: one second."""
_OTHERS = """
    zero one two three four five six seven eight nine bed bird cat dog happy house tree wow backward forward
    follow learn hello please open close start wait turn light lamp door water music window table chair paper
    green yellow blue red black white morning evening dinner coffee doctor mother father brother sister teacher
    garden river mountain street yet yell guess yesterday noon nose note now nob cup pup upper but town dawn
    found brown dab lift less laugh loft leaf ride rice night own an aunt often of awful cough offer sob step
    shop stock top stone gold goat gun ago girl gone
"""
OTHER_WORDS = tuple(_OTHERS.split())
"""Words that are no command; many sound like one. None is a homophone of one."""


@dataclass(frozen=True, slots=True, eq=False)
class WordClips:
    """Sounds of one word each.

    `waves` are (samples,) float32 in -1..1; `labels` (n,) indices into COMMANDS, or NONE; `kinds` the folder's name or
    the word said; `speakers` who said it.
    """

    waves: tuple[Float32Array, ...]
    labels: NDArray[np.int64]
    kinds: tuple[str, ...]
    speakers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.waves)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> WordClips:
        """The clips of these rows, in their order."""
        rows = [int(row) for row in rows]
        return WordClips(
            tuple(self.waves[row] for row in rows),
            self.labels[rows],
            tuple(self.kinds[row] for row in rows),
            tuple(self.speakers[row] for row in rows),
        )

    def silences(self) -> list[Float32Array]:
        """The waves that are no speech, but those that are nothing at all."""
        return [wave for wave, kind in zip(self.waves, self.kinds, strict=True) if kind == SILENCE and wave.any()]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Rows of the clips to learn from, to choose the threshold on, and to be tested; no speaker is in two of them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def find_clips(folder: Path) -> list[Clip]:
    """The clips of the twelve folders.

    Raises `RecordingError` when there are none, `InputError` when a folder is missing or empty.
    """
    clips = [clip for clip in read_clips(folder) if clip.label in FOLDERS]
    if missing := [name for name in FOLDERS if not any(clip.label == name for clip in clips)]:
        raise InputError(
            f"{folder}: no clips in {', '.join(missing)}; a folder a command, {UNKNOWN} and {SILENCE} are needed"
        )
    return clips


def load_clips(clips: Sequence[Clip]) -> WordClips:
    """Decode `clips`, each cut or padded with zeros to one second at 16 kHz. Raises `RecordingError` for a bad file."""
    waves = [_second(clip.path) for clip in tqdm(clips, desc="clips", unit="clip")]
    labels = [COMMANDS.index(clip.label) if clip.label in COMMANDS else NONE for clip in clips]
    return WordClips(
        tuple(waves), np.array(labels, np.int64), tuple(c.label for c in clips), tuple(c.speaker for c in clips)
    )


def folds_of(clips: Sequence[Clip], folds: int, seed: int, validation: int = 8) -> list[Fold]:
    """Every clip is tested in exactly one fold; one in `validation` of a fold's other clips choose the threshold.

    The split is by speaker and the same for the same clips and seed. Raises `InputError` when there are fewer than two
    folds, or too few speakers for one of them.
    """
    if folds < 2:
        raise InputError(f"{folds} folds; at least 2 are needed, one to test and one to learn from")
    row_of = {clip.path: row for row, clip in enumerate(clips)}
    found = []
    for test in split_by_speaker(clips, folds, seed):
        tested = {clip.path for clip in test}
        others = [clip for clip in clips if clip.path not in tested]
        chosen, *rest = split_by_speaker(others, validation, seed)
        parts = ([clip for part in rest for clip in part], chosen, test)
        if not all(parts):
            speakers = len({clip.speaker for clip in clips})
            raise InputError(f"{speakers} speakers are too few for {folds} folds; take fewer folds or more clips")
        found.append(Fold(*(np.array(sorted(row_of[clip.path] for clip in part), np.int64) for part in parts)))
    return found


def synthetic_words(seed: int, count: int = 1500) -> WordClips:
    """`count` utterances of the commands and as many of other words, in the training split's voices."""
    commands, others = say_words(COMMANDS, count, seed), say_words(OTHER_WORDS, count, seed + count)
    return WordClips(
        commands.waves + others.waves,
        np.concatenate([commands.labels, others.labels]),
        commands.kinds + others.kinds,
        commands.speakers + others.speakers,
    )


def say_words(words: Sequence[str], count: int, seed: int, split: Split = Split.TRAIN) -> WordClips:
    """`count` utterances, every word about as often, each in a voice of its own; in the test split's with `split`.

    Raises `UnavailableError` without espeak-ng.
    """
    waves, speakers, said = [], [], []
    for index in tqdm(range(count), desc="synthetic words", unit="word"):
        draws = Draws(seed + index, split, stream=97)
        speaker: Speaker = draw_speaker(draws) if split is Split.TEST else any_speaker(draws)
        word = words[index % len(words)]
        waves.append(say(word, speaker)[:CLIP_SAMPLES])
        speakers.append(speaker.voice)
        said.append(word)
    labels = [COMMANDS.index(word) if word in COMMANDS else NONE for word in said]
    return WordClips(tuple(waves), np.array(labels, np.int64), tuple(said), tuple(speakers))


def load_sound(path: Path) -> Float32Array:
    """All of a sound file as 16 kHz samples (n,) in -1..1. Raises `RecordingError` for what is none."""
    payloads = (reading.payload for _, reading in AudioReader.open(path, None, None, salvage=False).readings())
    pcm = [payload.pcm for payload in payloads if isinstance(payload, AudioChunk)]
    return np.asarray(np.concatenate(pcm).astype(np.float32) / np.float32(32768), np.float32)


def _second(path: Path) -> Float32Array:
    wave = load_sound(path)[:CLIP_SAMPLES]
    return np.pad(wave, (0, CLIP_SAMPLES - len(wave)))
