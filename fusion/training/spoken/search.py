"""All folds of the spoken commands, in parallel processes and in a given time.

Recipes are compared by how many validation clips they get right, over all folds, after the same time; the best is
then trained from other seeds too. Test clips are scored for that one alone.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fusion.training.spoken.learning import CommandRecipe, Effort
from fusion.training.spoken.pack import CommandPack
from fusion.training.spoken.runs import Run, Told, Where, learn, score
from fusion.training.spoken.scores import SCORES

REPORT = "runs.json"
"""How the recipe was chosen, and how long each run took, in the output folder."""
_FIXED_S, _SHARE = 30.0, 0.92
"""Seconds that starting takes, and the share of what is left that is for training; the rest is for scoring."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be done: `seconds` in all, `seeds`, parallel `jobs`, and the most `steps` of a run."""

    seconds: float
    seeds: int = 3
    jobs: int = 5
    steps: int = 1_000_000

    def unit_seconds(self, recipes: Sequence[CommandRecipe], folds: int) -> float:
        """The seconds of one fold's training with which all of it fits in the time, first stages included."""
        rounds = -(-folds // self.jobs)
        first = max(recipe.first for recipe in recipes)
        stages = -(-len(recipes) // self.jobs) + -(-(self.seeds - 1) // self.jobs)
        units = first * stages + rounds * (len(recipes) + self.seeds - 1)
        return max(self.seconds - _FIXED_S, 1.0) * _SHARE / units

    def effort(self, recipe: CommandRecipe, seconds: float, *, first: bool) -> Effort:
        """What a fold's training, or the first stage before it, may take of a unit of `seconds`."""
        steps, share = min(self.steps, recipe.steps), recipe.first if first else 1.0
        return Effort(max(1, round(steps * share)), seconds * share)


class Search:
    """Trains the folds of the pack in `where` by `recipes`, named, within `plan`, and keeps in `out` what comes of it.

    Use it as a context: processes are ended with it.
    """

    def __init__(self, where: Where, out: Path, plan: Plan, recipes: Mapping[str, CommandRecipe]) -> None:
        self._where, self._out, self._plan, self._recipes = where, out, plan, recipes
        self._folds = range(len(CommandPack.load(where.pack).folds))
        self._seconds = plan.unit_seconds(list(recipes.values()), len(self._folds))
        self._pool = ProcessPoolExecutor(plan.jobs, multiprocessing.get_context("spawn"))
        where.weights.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def train(self, names: Sequence[str], seeds: Sequence[int]) -> list[Told]:
        """The first stages of these recipes from these seeds, then all their folds."""
        first = [self._run(name, seed, None) for name in names for seed in seeds]
        then = [self._run(name, seed, fold) for name in names for seed in seeds for fold in self._folds]
        return self._done(first) + self._done(then)

    def keep_scores(self, name: str, seeds: Sequence[int]) -> None:
        """Score all folds of these seeds, and write them to SCORES."""
        runs = [self._run(name, seed, fold) for seed in seeds for fold in self._folds]
        arrays: dict[str, Any] = {}
        for run, scores in zip(runs, self._pool.map(score, [self._where] * len(runs), runs), strict=True):
            arrays |= scores.arrays(f"{run.seed}/{run.fold}")
        np.savez_compressed(self._out / SCORES, **arrays)

    def _run(self, name: str, seed: int, fold: int | None) -> Run:
        recipe = self._recipes[name]
        return Run(name, recipe, seed, fold, self._plan.effort(recipe, self._seconds, first=fold is None))

    def _done(self, runs: Sequence[Run]) -> list[Told]:
        waiting = [self._pool.submit(learn, self._where, run) for run in runs]
        told = []
        for done in tqdm(as_completed(waiting), desc="runs", total=len(waiting)):
            told.append(done.result())
            tqdm.write(str(told[-1]))
        return told


def run_all(where: Where, out: Path, plan: Plan, recipes: Mapping[str, CommandRecipe]) -> None:
    """Compare the recipes, train the best from all seeds, and write SCORES and REPORT to `out`.

    Raises `InputError` for a pack that cannot be read.
    """
    began = time.monotonic()
    with Search(where, out, plan, recipes) as search:
        told = search.train(list(recipes), [0])
        means = validation(told)
        best = max(means, key=lambda name: means[name])
        search.keep_scores(best, [0])  # so that there is something to read if time runs out
        if others := range(1, plan.seeds):
            told += search.train([best], others)
            search.keep_scores(best, range(plan.seeds))
    report: dict[str, Any] = {"chosen": best, "recipe": asdict(recipes[best]), "validation": means}
    report |= {"device": where.device, "seconds": time.monotonic() - began, "runs": [asdict(one) for one in told]}
    (out / REPORT).write_text(json.dumps(report, indent=1))


def validation(told: Sequence[Told]) -> dict[str, float]:
    """The mean share of validation clips that each recipe gets right, in percent, by the recipe's name."""
    shares: dict[str, list[float]] = {}
    for one in told:
        if one.right is not None:
            shares.setdefault(one.candidate, []).append(one.right)
    return {name: float(np.mean(found)) for name, found in shares.items()}
