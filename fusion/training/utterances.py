"""A bank of spoken commands and of yard noise, mixed anew for every training sample.

What a scene's objects could be called is known, so any fitting command can be put in any scene: speech and
sight are trained on far more pairs than there are scenes. Accents and noises are the training split's; beyond those,
many more voices than it has, noises out of nothing in particular, rooms and microphones (`acoustics`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.preparation import WINDOW_SAMPLES
from fusion.recording.part_file import part_file
from fusion.simulation.commands import Command, draw_command
from fusion.simulation.draws import Draws, bin_parity
from fusion.simulation.sample import Split
from fusion.simulation.sound import background, to_pcm
from fusion.simulation.speech import PITCHES, SPEEDS, TEST_VOICES, TRAIN_VOICES, Speaker, say
from fusion.simulation.stock import CONDITIONS
from fusion.task import Task
from fusion.training.acoustics import drawn_noise, through_room
from fusion.training.chatter import chatter
from fusion.training.detection.prepared import facts_sha256
from fusion.types import Float32Array, Int16Array

_FORMAT = 2
"""Grows when the same words and seed make another bank."""
_LONGEST = 40_000
_ACCENTS = tuple(dict.fromkeys(voice.partition("+")[0] for voice in TRAIN_VOICES))
_HELD_OUT = {voice.partition("+")[2] for voice in TEST_VOICES}
_VARIANTS = """
f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee
Marco Mario Michael Mike Nguyen adam antonio aunty belinda benjamin boris caleb david ed edward edward2 grandma
grandpa iven iven2 john kaukovalta klatt klatt2 klatt3 linda marcelo max michel miguel norbert pablo paul pedro
quincy rob robert sandro shelby steph steph2 steph3 travis victor anika
"""
_TIMBRES = tuple(name for name in _VARIANTS.split() if name not in _HELD_OUT)
"""Timbres of espeak-ng's voices, but the test split's."""
_SPLIT_NOISES = 3
"""Of so many noises one is of the training split's kinds."""
_UNSPOKEN = 0.2
"""Share of utterances that are about nothing to be seen: stop, count, the yard's own talk."""
_CHATTER = 0.25
"""Share of any other talk."""
_WAYS = (
    "the {}",
    "the left {}",
    "the {} on the left",
    "the right {}",
    "the {} on the right",
    "the nearest {}",
    "the closest {}",
    "the farthest {}",
    "the toppled {}",
    "the leaking {}",
    "the broken {}",
    "the dented {}",
)


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Three seconds of `sound` (WINDOW_SAMPLES,) in -1..1; speech lasts `length` samples from `start` on."""

    sound: Float32Array
    start: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceBank:
    """`waves` (n, samples) int16 of peak 1, each padded with zeros after `lengths`; `commands` what they say.

    `noises` (m, WINDOW_SAMPLES) int16, scaled to a tenth of full scale.
    """

    waves: Int16Array
    lengths: NDArray[np.int32]
    commands: tuple[Command, ...]
    noises: Int16Array

    def mix(self, index: int | None, rng: np.random.Generator) -> Mixed:
        """Utterance `index` in noise, or noise alone, as the yard mixes them, but in other rooms too."""
        noise = self._noise(rng)
        if rng.random() < 0.3:
            noise = np.asarray((noise + rng.uniform(0.3, 1.0) * self._noise(rng)) / 1.2, np.float32)
        if index is None:
            return Mixed(np.asarray(noise * np.float32(rng.uniform(0.01, 0.15))))
        wave: Float32Array = self.waves[index, : self.lengths[index]].astype(np.float32) / np.float32(32767)
        wave = _stretched(wave, float(rng.uniform(0.82, 1.22)))[-(WINDOW_SAMPLES - 800) :]
        if rng.random() < 0.7:
            wave = through_room(wave, rng)
            wave = wave / np.float32(max(float(np.abs(wave).max(initial=0)), 1e-6))
        level = rng.uniform(0.2, 0.75)
        power = float(np.sqrt(np.mean(wave**2))) * level
        sound = noise * np.float32(power / 10 ** (rng.uniform(-1.0, 22.0) / 20))
        start = int(rng.uniform(0, WINDOW_SAMPLES - 800 - len(wave))) if rng.random() < 0.5 else -1
        if start < 0:
            start = max(0, WINDOW_SAMPLES - len(wave) - round(rng.uniform(0.05, 1.0) * 16000))
        sound[start : start + len(wave)] += wave * np.float32(level)
        return Mixed(np.asarray(np.clip(sound, -1.0, 1.0), np.float32), start, len(wave))

    def _noise(self, rng: np.random.Generator) -> Float32Array:
        chosen = self.noises[int(rng.integers(len(self.noises)))]
        return np.asarray(np.roll(chosen, int(rng.integers(len(chosen)))).astype(np.float32) / np.float32(3276.7))


def _stretched(wave: Float32Array, factor: float) -> Float32Array:
    """`wave` played at another speed, pitch and all."""
    places = np.arange(0, len(wave) - 1, factor)
    return np.asarray(np.interp(places, np.arange(len(wave)), wave), np.float32)


def phrases_of(task: Task) -> list[str]:
    """Every noun phrase the yard's operators use."""
    conditions = set(task.conditions)
    return [
        way.format(label)
        for way in _WAYS
        for label in task.classes
        if way.split()[1] not in conditions - set(CONDITIONS[label])
    ]


def make_bank(task: Task, count: int, noises: int, seed: int = 7) -> UtteranceBank:
    """`count` commands, every phrase about as often, in training accents, and `noises` stretches of noise."""
    phrases = phrases_of(task)
    waves = np.zeros((count, _LONGEST), np.int16)
    lengths = np.zeros(count, np.int32)
    commands = []
    for index in tqdm(range(count), desc="utterances", unit="utterance"):
        draws = Draws(seed + index, Split.TRAIN, stream=91)
        command = _command(draws, phrases, index)
        wave = to_pcm(say(command.text, any_speaker(draws)))[:_LONGEST]
        waves[index, : len(wave)] = wave
        lengths[index] = len(wave)
        commands.append(command)
    sounds = (_noise(Draws(seed + i, Split.TRAIN, stream=92), i) for i in range(noises))
    return UtteranceBank(waves, lengths, tuple(commands), np.stack([to_pcm(s * np.float32(0.1)) for s in sounds]))


def any_speaker(draws: Draws) -> Speaker:
    """An accent of the training split with any timbre, speed and pitch but the test split's; the latter two reach
    further than that split's.
    """
    accent, timbre = (names[int(draws.rng.integers(len(names)))] for names in (_ACCENTS, _TIMBRES))
    return Speaker(f"{accent}+{timbre}", _around(draws, 110, 205, SPEEDS), _around(draws, 15, 83, PITCHES))


def _around(draws: Draws, low: int, high: int, held: tuple[int, int]) -> int:
    """A whole number of [low, high) that is in none of the test split's bins of the range `held`."""
    while True:
        number = int(draws.rng.integers(low, high))
        if not (held[0] <= number < held[1] and bin_parity(number, *held)):
            return number


def _noise(draws: Draws, index: int) -> Float32Array:
    own = index % _SPLIT_NOISES == 0
    return background(draws, WINDOW_SAMPLES) if own else drawn_noise(draws.rng, WINDOW_SAMPLES)


def _command(draws: Draws, phrases: Sequence[str], index: int) -> Command:
    if draws.chance(_CHATTER):
        return Command(chatter(draws.rng))
    if draws.chance(_UNSPOKEN):
        return draw_command(draws, [])
    chosen = phrases[index % len(phrases)]
    while (command := draw_command(draws, [("plain", chosen, 1)])).intent != "inspect":
        pass
    return command


def load_bank(path: Path, task: Task, *, count: int = 6000, noises: int = 900, seed: int = 7) -> UtteranceBank:
    """The bank kept in `path` (.npz), made first when none of these words, counts and seed is there whole."""
    made_of = facts_sha256([_FORMAT, phrases_of(task), count, noises, seed])
    if (kept := _kept(path, made_of)) is not None:
        return kept
    bank = make_bank(task, count, noises, seed)
    said = np.array([(c.text, c.intent) for c in bank.commands])
    with part_file(path) as file:
        np.savez(file, made_of=made_of, waves=bank.waves, lengths=bank.lengths, said=said, noises=bank.noises)
    return bank


def _kept(path: Path, made_of: str) -> UtteranceBank | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if "made_of" not in file.files or str(file["made_of"]) != made_of:
                return None
            commands = tuple(Command(str(text), str(intent), 0) for text, intent in file["said"])
            return UtteranceBank(file["waves"], file["lengths"], commands, file["noises"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def vocabulary(texts: Iterable[str], least: int = 5, most: int = 48) -> tuple[str, ...]:
    """The words worth spotting: those said at least `least` times, the commonest `most`, in alphabetical order."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(text.lower().split()):
            counts[word] = counts.get(word, 0) + 1
    common = sorted((word for word, n in counts.items() if n >= least), key=lambda word: (-counts[word], word))
    return tuple(sorted(common[:most]))


def word_frames(text: str, words: Sequence[str], mixed: Mixed, frames: int, hop: int) -> Float32Array:
    """About when each of `words` is said: (frames, words) of 1 within the word, 0 elsewhere, -1 at its uncertain edges.

    A word is taken to last in proportion to its letters, which is close enough for a synthesizer.
    """
    table = np.zeros((frames, len(words)), np.float32)
    spoken = text.lower().split()
    ends = np.cumsum([len(word) + 1 for word in spoken], dtype=np.float64)
    ends = mixed.start + mixed.length * ends / ends[-1] if len(ends) else ends
    centre = np.arange(frames) * hop + hop / 4
    for word, begin, end in zip(spoken, [mixed.start, *ends[:-1]], ends, strict=True):
        if word in words:
            column = table[:, words.index(word)]
            column[(centre > begin - 2 * hop) & (centre < end + 3 * hop) & (column == 0)] = -1
            column[(centre > begin + hop) & (centre < end + hop)] = 1
    return table


def spoken_words(text: str, words: Sequence[str]) -> Float32Array:
    """Which of `words` are in `text`: (len(words),) of 0 and 1."""
    said = set(text.lower().split())
    return np.array([float(word in said) for word in words], np.float32)
