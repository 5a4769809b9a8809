"""Clips of single spoken words, and who is learned from and who is tested when.

The real ones lie in a folder a word, as in Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech
Recognition", 2018: the ten commands, `_unknown_` for other words, `_silence_` for what is no speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.types import Float32Array

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
NONE = len(COMMANDS)
"""The label of what is none of the commands."""
UNKNOWN, SILENCE = "_unknown_", "_silence_"
SPEECH = "speech"
"""The kind of a stretch of longer speech."""
FOLDERS = (*COMMANDS, UNKNOWN, SILENCE)
CLIP_SAMPLES = 16_000
"""Samples of a clip: one second at 16 kHz."""
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
    """Sounds of one word each, or of none.

    `waves` are (samples,) float32 in -1..1, a second or less; `labels` (n,) indices into COMMANDS, or NONE; `kinds` the
    folder's name or the word said; `speakers` who said it; `names` what tells a clip from the others of its set.
    """

    waves: tuple[Float32Array, ...]
    labels: NDArray[np.int64]
    kinds: tuple[str, ...]
    speakers: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.waves)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> WordClips:
        """The clips of these rows, in their order."""
        rows = [int(row) for row in rows]
        told = (tuple(told[row] for row in rows) for told in (self.kinds, self.speakers, self.names))
        return WordClips(tuple(self.waves[row] for row in rows), self.labels[rows], *told)

    def joined(self, other: WordClips) -> WordClips:
        """These clips, then the other's."""
        labels = np.concatenate([self.labels, other.labels])
        kinds, speakers = self.kinds + other.kinds, self.speakers + other.speakers
        return WordClips(self.waves + other.waves, labels, kinds, speakers, self.names + other.names)

    def silences(self) -> list[Float32Array]:
        """The waves that are no speech, but those that are nothing at all."""
        return [wave for wave, kind in zip(self.waves, self.kinds, strict=True) if kind == SILENCE and wave.any()]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Rows of the clips to learn from, to choose by, and to be tested; no speaker is in two of them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def folds_of(speakers: Sequence[str], folds: int, seed: int, validation: int = 8) -> list[Fold]:
    """Every clip is tested in exactly one fold; of a fold's other clips, about one in `validation` is to choose by.

    `speakers` (n,) say who is heard in a clip. Speakers are drawn in a random order, and each goes to the part that has
    the fewest clips by then, so the parts are about equal. The same for the same speakers and seed. Raises `InputError`
    when there are fewer than two folds, or too few speakers for one of them.
    """
    if folds < 2:
        raise InputError(f"{folds} folds; at least 2 are needed, one to test and one to learn from")
    who = np.array(speakers)
    found = []
    for tested in _dealt(who, np.arange(len(who)), folds, seed):
        others = np.setdiff1d(np.arange(len(who)), tested)
        chosen, *rest = _dealt(who, others, validation, seed)
        fold = Fold(np.sort(np.concatenate(rest)), chosen, tested)
        if not all(map(len, (fold.train, fold.validation, fold.test))):
            count = len(set(speakers))
            raise InputError(f"{count} speakers are too few for {folds} folds; take fewer folds or more clips")
        found.append(fold)
    return found


def _dealt(who: NDArray[np.str_], rows: NDArray[np.int64], parts: int, seed: int) -> list[NDArray[np.int64]]:
    """`rows` in `parts` parts, sorted, all of a speaker's in one of them."""
    found: list[list[int]] = [[] for _ in range(parts)]
    for speaker in np.random.default_rng(seed).permutation(np.unique(who[rows])):
        min(found, key=len).extend(rows[who[rows] == speaker].tolist())
    return [np.array(sorted(part), np.int64) for part in found]
