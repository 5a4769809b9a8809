"""Trains the arms, several at a time."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import torch

from fusion.model.build import FusionModel
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fixed_budget import Budget, train_on_budget
from fusion.training.fusion_data import SceneSampler
from fusion.training.pretrain import pretrain
from fusion.training.scene_features import open_cache
from fusion.training.sounds import HeardTokens
from subsets.arms import ARMS
from subsets.files import load_heard, load_weights, save_weights, weights_path
from subsets.rivals import count


def train(arguments: argparse.Namespace) -> None:
    """Every arm and seed that has no weights yet, `--jobs` at a time; those that others begin with come first."""
    chosen = arguments.arms or list(ARMS)
    jobs = [(arm, seed) for seed in range(arguments.seeds) for arm in chosen]
    jobs = [job for job in jobs if not weights_path(arguments, *job).is_file()]
    first, then = ([job for job in jobs if bool(ARMS[job[0]].objective) is pre] for pre in (True, False))
    waiting = [job for job in then if ARMS[job[0]].start]
    rest = [job for job in then if not ARMS[job[0]].start]
    if arguments.jobs == 1:
        for job in (*first, *rest, *waiting):
            _train_one(arguments, *job)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.jobs) as pool:
        done = pool.starmap_async(_train_one, [(arguments, *job) for job in (*first, *rest, *waiting)], chunksize=1)
        done.get()


def _train_one(arguments: argparse.Namespace, name: str, seed: int) -> None:
    torch.set_num_threads(arguments.threads)
    arm, began = ARMS[name], time.monotonic()
    spec, pool = FusionSpec.load(arguments.bundle), load_heard(arguments.out / "pool")
    cache = open_cache(arguments.train)
    torch.manual_seed(seed)
    model = arm.build(spec, pool.positions)
    if arm.start:
        _begin(model, weights_path(arguments, arm.start, seed))
    device = arguments.device
    sounds = HeardTokens(cache, spec, pool=pool, device=device)
    sampler = SceneSampler(cache, spec, sounds=sounds, given=arm.given, dropout=arm.dropout, device=device)
    budget = Budget(steps=arguments.steps, batch=arguments.batch, seed=seed, precision=arguments.precision)
    title = f"{name} {seed}"
    if arm.objective:
        pretrain(model, sampler, budget, arm.objective, name=title)
        made = model
    else:
        scenes = range(round(arm.labels * len(cache)))
        made = train_on_budget(model, sampler, budget, scenes=scenes, name=title)
    facts = {"parameters": str(count(made)), "seconds": f"{time.monotonic() - began:.1f}", "steps": str(budget.steps)}
    save_weights(weights_path(arguments, name, seed), made, facts)


def _begin(model: FusionModel, path: Path, patience_s: float = 600.0) -> None:
    """Take over pretrained weights, once they are there."""
    end = time.monotonic() + patience_s
    while not path.is_file() and time.monotonic() < end:
        time.sleep(1.0)
    load_weights(model, path)
