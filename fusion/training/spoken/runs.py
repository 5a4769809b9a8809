"""One training of a recogniser of spoken commands, and its scores, as a process does them beside others."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fusion.training.spoken.clips import NONE
from fusion.training.spoken.learning import CommandRecipe, Effort, train_commands
from fusion.training.spoken.pack import CommandPack
from fusion.training.spoken.recogniser import CommandRecogniser
from fusion.training.spoken.scores import FoldScores, heard, score_fold
from fusion.training.spoken.sounds import SoundBank, training_noises


@dataclass(frozen=True, slots=True)
class Where:
    """The pack's folder, the folder that weights are kept in between runs, and the device that trains."""

    pack: Path
    weights: Path
    device: str


@dataclass(frozen=True, slots=True)
class Run:
    """One training: a candidate, a seed, and a fold; none is the first stage, on synthetic voices alone."""

    candidate: str
    recipe: CommandRecipe
    seed: int
    fold: int | None
    effort: Effort

    @property
    def name(self) -> str:
        """Its weights' file, without the suffix."""
        return f"{self.candidate}-{self.seed}-{'first' if self.fold is None else self.fold}"


@dataclass(frozen=True, slots=True)
class Told:
    """What a run came to: its `steps`, its `seconds`, and the share of validation clips it gets right, in percent,
    mean over the levels of noise; none for the first stage.
    """

    name: str
    candidate: str
    steps: int
    seconds: float
    right: float | None
    parameters: int


def learn(where: Where, run: Run) -> Told:
    """Train one run and keep its weights; a fold's begins with the weights of the first stage."""
    began = time.monotonic()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    start = None if run.fold is None else _built(where, replace(run, fold=None))
    bank = _bank(where, run.fold)
    seed = run.seed * 100 + (99 if run.fold is None else run.fold)
    model, steps = train_commands(bank, run.recipe, run.effort, seed, start)
    save_file(
        {name: t.contiguous() for name, t in model.state_dict().items()}, where.weights / f"{run.name}.safetensors"
    )
    right = None if run.fold is None else _right(model, _pack(where.pack), run.fold)
    return Told(run.name, run.candidate, steps, time.monotonic() - began, right, model.count())


def score(where: Where, run: Run) -> FoldScores:
    """What the weights of a run say of its fold. Raises `ValueError` for a first stage."""
    torch.set_num_threads(1)
    if run.fold is None:
        raise ValueError(f"{run.name}: a first stage has no clips to be tested with")
    return score_fold(_built(where, run), _pack(where.pack), run.fold)


def _right(model: CommandRecogniser, pack: CommandPack, fold: int) -> float:
    """Percent of the validation clips, heard at all levels, of which the likeliest label is the right one; what is no
    command counts for one class of eleven.
    """
    rows = pack.folds[fold].validation
    labels = pack.real.labels[rows]
    right = heard(model, pack.real, rows, pack.noises).argmax(2) == labels  # (levels, n)
    words, none = right[:, labels != NONE].mean(), right[:, labels == NONE].mean()
    return float(100 * (NONE * words + none) / (NONE + 1))


def _built(where: Where, run: Run) -> CommandRecogniser:
    model = CommandRecogniser(run.recipe.ears, run.recipe.masking)
    model.load_state_dict(load_file(where.weights / f"{run.name}.safetensors"))
    return model.to(where.device).eval()


@lru_cache(maxsize=1)
def _pack(folder: Path) -> CommandPack:
    return CommandPack.load(folder)


@lru_cache(maxsize=2)
def _bank(where: Where, fold: int | None) -> SoundBank:
    """What a fold's training hears: of the real clips, those of its training speakers alone."""
    pack = _pack(where.pack)
    real = pack.real.take([] if fold is None else pack.folds[fold].train)
    talk = pack.voices.joined(pack.negatives)
    noises = training_noises(pack.noises, real, talk, 0 if fold is None else fold)
    sources = [pack.voices] if fold is None else [real.joined(pack.negatives), pack.voices]
    return SoundBank(sources, noises, pack.rooms, torch.device(where.device))
