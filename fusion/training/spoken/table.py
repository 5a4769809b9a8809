"""Tables of what all folds' recognisers say together: commands at every level of noise, and what is taken for one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.evaluation.bootstrap import Interval, mean_interval
from fusion.training.spoken.clips import NONE, SILENCE, UNKNOWN, Fold, WordClips
from fusion.training.spoken.pack import CommandPack
from fusion.training.spoken.recogniser import decide
from fusion.training.spoken.scores import LEVELS_DB, SCORES, FoldScores
from fusion.types import BoolArray, Float32Array

FALSE_ACCEPTS = 0.05
"""Share of other words, by the validation speakers, that a threshold lets pass."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """One seed's recogniser of one fold, what it said, and the threshold that its validation speakers gave it."""

    fold: Fold
    scores: FoldScores
    threshold: float


def tables(pack: Path, out: Path) -> str:
    """Two markdown tables of the scores in `out`. Raises `InputError` for a missing file or one of another pack."""
    known = CommandPack.load(pack)
    return table(read_scores(out / SCORES, known.folds, known.real), known.real, known.digits)


def read_scores(path: Path, folds: Sequence[Fold], clips: WordClips) -> list[Heard]:
    """What `path` keeps, a fold a seed; thresholds are chosen here, on validation clips alone.

    Raises `InputError` when the file cannot be read, or is of other folds.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no scores can be read from it ({error}); train first") from None
    found = []
    for name in sorted({key.rpartition("/")[0] for key in arrays}):
        scores, number = FoldScores.of(arrays, name), int(name.rpartition("/")[2])
        if number >= len(folds) or scores.words.shape[1] != len(folds[number].test):
            raise InputError(f"{path}: scores of other folds than the pack's; train again")
        found.append(Heard(folds[number], scores, fold_threshold(scores, folds[number], clips)))
    return found


def fold_threshold(scores: FoldScores, fold: Fold, clips: WordClips) -> float:
    """The threshold that lets FALSE_ACCEPTS of the fold's validation clips of other words pass, over all levels."""
    others = np.array([clips.kinds[row] == UNKNOWN for row in fold.validation])
    return choose_threshold(scores.chosen[:, others].reshape(-1, NONE + 1), FALSE_ACCEPTS)


def choose_threshold(probabilities: Float32Array, false_accepts: float) -> float:
    """The least threshold that at most a share of `false_accepts` of what is no command (n, NONE + 1) passes; 0.5
    where there is nothing to choose by.
    """
    likeliest = np.sort(probabilities[:, :NONE].max(1))
    if not len(likeliest):
        return 0.5
    return float(likeliest[len(likeliest) - 1 - int(false_accepts * len(likeliest))])


def table(heard: Sequence[Heard], clips: WordClips, digits: WordClips) -> str:
    """Markdown; shares are means over clips and seeds, with 95 % intervals by bootstrap over speakers."""
    lines = ["| sounds | right of the ten words | right, with the threshold | other words taken for a command |"]
    lines.append("|---|---|---|---|")
    for level, decibels in enumerate(LEVELS_DB):
        cells = _level(heard, clips, level)
        lines.append(f"| {'clean' if decibels is None else f'{decibels:.0f} dB'} | {' | '.join(map(str, cells))} |")
    lines += ["", "| what is no command | clips | taken for one |", "|---|---|---|"]
    lines += [f"| {what} | {count} | {share} |" for what, count, share in _others(heard, clips, digits)]
    return "\n".join(lines)


def _level(heard: Sequence[Heard], clips: WordClips, level: int) -> list[Interval]:
    """Right of the ten, right with the threshold, and other words taken for one, at one level of noise."""
    return [
        _share(heard, clips, lambda one, labels: _likeliest(one, level) == labels, commands=True),
        _share(heard, clips, lambda one, labels: _decided(one, level) == labels, commands=True),
        _share(heard, clips, lambda one, _: _decided(one, level) != NONE, kind=UNKNOWN),
    ]


def _others(heard: Sequence[Heard], clips: WordClips, digits: WordClips) -> Iterator[tuple[str, int, Interval]]:
    """What is no command: its name, of how many clips, and the share that is taken for one."""
    for kind in (UNKNOWN, SILENCE):
        wrong = _share(heard, clips, lambda one, _: _decided(one, 0) != NONE, kind=kind)
        yield f"`{kind}`, clean", clips.kinds.count(kind), wrong
    noises = np.concatenate([one.scores.noises for one in heard])
    passed = np.concatenate([decide(one.scores.noise, one.threshold) != NONE for one in heard])
    yield "noise alone", len(np.unique(noises)), mean_interval(passed, noises)
    if len(digits):
        passed = np.concatenate([decide(one.scores.digits, one.threshold) != NONE for one in heard])
        yield "digits of another data set", len(digits), mean_interval(passed, np.tile(digits.speakers, len(heard)))


def _share(
    heard: Sequence[Heard],
    clips: WordClips,
    is_so: Callable[[Heard, NDArray[np.int64]], BoolArray],
    *,
    commands: bool = False,
    kind: str = "",
) -> Interval:
    """Of the test clips that are commands, or of a kind, the share of which it is so."""
    values, speakers = [], []
    for one in heard:
        labels = clips.labels[one.fold.test]
        kinds = np.array([clips.kinds[row] for row in one.fold.test])
        meant = labels != NONE if commands else kinds == kind
        values.append(is_so(one, labels)[meant])
        speakers.append(np.array([clips.speakers[row] for row in one.fold.test])[meant])
    return mean_interval(np.concatenate(values), np.concatenate(speakers))


def _likeliest(one: Heard, level: int) -> NDArray[np.int64]:
    return np.asarray(one.scores.words[level, :, :NONE].argmax(1), np.int64)


def _decided(one: Heard, level: int) -> NDArray[np.int64]:
    return decide(one.scores.words[level], one.threshold)
