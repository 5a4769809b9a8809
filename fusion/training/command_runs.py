"""All the folds of the spoken commands, in parallel processes and in a given time.

Recipes are compared by how many validation clips they get right, over all folds, after the same time; the best is
then trained from other seeds too. Test clips are scored for that one alone.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from fusion.training.command_clips import NONE, WordClips
from fusion.training.command_pack import CommandPack
from fusion.training.command_recogniser import CommandRecogniser
from fusion.training.command_scores import FoldScores, heard, score_fold
from fusion.training.command_sounds import SoundBank, training_noises
from fusion.training.spoken_commands import CommandRecipe, Effort, candidates, train_commands

SCORES = "scores.npz"
"""What the folds' recognisers said, in the output folder."""
REPORT = "runs.json"
"""How the recipe was chosen, and how long each run took."""
_FIXED_S, _SHARE = 30.0, 0.92
"""Seconds that starting takes, and the share of what is left that is for training; the rest is for scoring."""


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
    steps: int
    seconds: float
    right: float | None
    parameters: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be done: `seconds` in all, `seeds`, parallel `jobs`, and the most `steps` of a run."""

    seconds: float
    seeds: int
    jobs: int
    steps: int

    def efforts(self, recipes: Sequence[CommandRecipe], folds: int) -> Iterator[tuple[Effort, Effort]]:
        """Of each recipe the first stage's effort and a fold's, such that all of it fits in the time."""
        rounds = -(-folds // self.jobs)
        first = max(recipe.first for recipe in recipes)
        stages = -(-len(recipes) // self.jobs) + (self.seeds > 1) * -(-(self.seeds - 1) // self.jobs)
        units = first * stages + rounds * (len(recipes) + self.seeds - 1)
        seconds = max(self.seconds - _FIXED_S, 1.0) * _SHARE / units
        for recipe in recipes:
            steps = min(self.steps, recipe.steps)
            early = Effort(max(1, round(steps * recipe.first)), seconds * recipe.first)
            yield early, Effort(steps, seconds)


def run_all(pack: Path, out: Path, device: str, plan: Plan) -> None:
    """Compare the candidates, train the best from all seeds, and write `scores.npz` and `runs.json` to `out`."""
    weights = out / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    where, recipes, began = Where(pack, weights, device), candidates(), time.monotonic()
    folds = range(len(CommandPack.load(pack).folds))
    efforts = dict(zip(recipes, plan.efforts(list(recipes.values()), len(folds)), strict=True))
    with ProcessPoolExecutor(plan.jobs, multiprocessing.get_context("spawn")) as pool:

        def runs(names: Sequence[str], seeds: Sequence[int], numbers: Sequence[int | None]) -> list[Told]:
            todo = [
                Run(name, recipes[name], seed, fold, efforts[name][fold is not None])
                for name in names
                for seed in seeds
                for fold in numbers
            ]
            waiting = [pool.submit(learn, where, run) for run in todo]
            done = [done.result() for done in tqdm(as_completed(waiting), desc="runs", total=len(waiting))]
            tqdm.write("\n".join(f"{time.monotonic() - began:.0f} s: {told}" for told in done))
            return done

        def keep(seeds: Sequence[int]) -> None:
            named = [(seed, fold) for seed in seeds for fold in folds]
            scored = [Run(best, recipes[best], seed, fold, efforts[best][1]) for seed, fold in named]
            found = zip(named, pool.map(score, [where] * len(named), scored), strict=True)
            arrays: dict[str, Any] = {}
            for (seed, fold), scores in found:
                arrays |= scores.arrays(f"{seed}/{fold}")
            np.savez_compressed(out / SCORES, **arrays)

        told = runs(list(recipes), [0], [None]) + runs(list(recipes), [0], list(folds))
        means = {name: _mean([t for t in told if t.name.startswith(f"{name}-0-")]) for name in recipes}
        best = max(means, key=lambda name: means[name])
        report: dict[str, Any] = {
            "chosen": best,
            "recipe": asdict(recipes[best]),
            "validation": means,
            "device": device,
        }
        (out / REPORT).write_text(json.dumps(report | {"runs": [asdict(t) for t in told]}, indent=1))
        keep([0])  # so that there is something to read if time runs out
        if others := range(1, plan.seeds):
            told += runs([best], others, [None]) + runs([best], others, list(folds))
            keep(range(plan.seeds))
    report |= {"runs": [asdict(t) for t in told], "seconds": time.monotonic() - began}
    (out / REPORT).write_text(json.dumps(report, indent=1))


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
    return Told(run.name, steps, time.monotonic() - began, right, model.count())


def score(where: Where, run: Run) -> FoldScores:
    """What the weights of a run say of its fold."""
    torch.set_num_threads(1)
    assert run.fold is not None
    return score_fold(_built(where, run), _pack(where.pack), run.fold)


def _mean(told: Sequence[Told]) -> float:
    return float(np.mean([t.right for t in told if t.right is not None]))


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
    real: WordClips = pack.real.take([] if fold is None else pack.folds[fold].train)
    talk = pack.voices.joined(pack.negatives)
    noises = training_noises(pack.noises, real, talk, 0 if fold is None else fold)
    sources = [pack.voices] if fold is None else [real.joined(pack.negatives), pack.voices]
    return SoundBank(sources, noises, pack.rooms, torch.device(where.device))
