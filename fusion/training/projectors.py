"""`fusion train projector`: our evidence for a pretrained model, into a folder that `hf:` takes."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion.errors import ConfigError
from fusion.evaluation.reviewer import calibrate, escalated
from fusion.review.folder import EvidenceFiles
from fusion.review.hub.model import open_model, told_of
from fusion.review.hub.name import HubName
from fusion.review.hub.network import HubNetwork
from fusion.review.hub.projected import Projected, load_projected, new_projector, save_projected
from fusion.review.hub.reviewer import HubReviewer, network_of
from fusion.review.item_cache import ItemCache
from fusion.review.projector import EvidenceProjector
from fusion.review.together import combinations_of, save_together
from fusion.task import Task
from fusion.training.projector import ProjectorRecipe, train_projector
from fusion.training.resuming import begun_with_items, decisive
from fusion.training.reviewers import training_items
from fusion.training.slot_training import Checkpoints
from fusion.types import Float64Array

SCHEME = "hf:"


def make_projector(task: Task, arguments: argparse.Namespace, bundle: Path) -> None:
    """Cache the items of the task's own reviewer, train, calibrate; prints where it went and how it is named."""
    if not arguments.reviewer or not arguments.reviewer.startswith(SCHEME):
        raise ConfigError("fusion train projector: whose? give --reviewer hf:NAME-OR-PATH")
    name = arguments.reviewer.removeprefix(SCHEME)
    called = HubName.parse(name if "task=" in name else f"{name}{'&' if '?' in name else '?'}task={task.name}")
    if called.task != task.name or called.projector or called.dtype == "float16":
        raise ConfigError(
            f"fusion train projector: {arguments.reviewer}: give neither another task than --task {task.name} nor a "
            "projector, and float32 or bfloat16 to learn in"
        )
    opened = open_model(called)
    cache, validation, _ = training_items(task, arguments, bundle)
    recipe = ProjectorRecipe(threads=arguments.threads)
    recipe = replace(recipe, disturbance=replace(recipe.disturbance, flips=not task.conditions))
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    recipe = recipe if arguments.seed is None else replace(recipe, seed=arguments.seed)
    torch.manual_seed(recipe.seed)
    projector = new_projector(opened.family, cache.layout, recipe.hidden)
    device = opened.family.head.weight.device

    def network(made: EvidenceProjector) -> HubNetwork:
        files = EvidenceFiles(task, cache.layout, made, {}, (), None, {})
        with told_of(called):
            return network_of(task, opened, cache.layout.crop, Projected(files, ""))

    folder = Path(arguments.out) / task.name / "projector"
    begun = {"recipe": decisive(recipe), "model": opened.fingerprint, **begun_with_items(cache, validation)}
    kept = Checkpoints(folder.with_name(f"{folder.name}-run"), begun, arguments.resume)
    run = train_projector(cache, validation, recipe, network, projector.to(device), checkpoints=kept)
    save_projected(folder, task, projector, [cache.profile], opened)
    save_together(folder, task, combinations_of(cache.columns["truth"]))
    reviewer = HubReviewer(called, task, opened, load_projected(folder, opened))
    facts = calibrate_projected(folder, reviewer, validation)
    ended = {"recipe": asdict(recipe), "model": opened.label, "best": run.best, "epochs": run.epochs, **facts}
    (folder / "run.json").write_text(json.dumps(ended, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(kept.folder, ignore_errors=True)
    print(
        f"{folder}: verdicts right {run.best['verdict']:.3f}, log-loss {run.best['nll']:.3f} on {len(validation)} items"
    )
    print(f"reviewer: {SCHEME}{called.where}?projector={folder}&device={called.device}&dtype={called.dtype}")


def calibrate_projected(folder: Path, reviewer: HubReviewer, validation: ItemCache, size: int = 32) -> dict[str, Any]:
    """Fit one temperature a slot on the validation items that a device escalates, and write `calibration.json`."""
    sent = escalated(validation)
    chosen = validation.take(sent) if sent.any() else validation
    return calibrate(folder, chosen, [_told(reviewer, chosen, size)], reviewer.temperatures)


def _told(reviewer: HubReviewer, cache: ItemCache, size: int) -> list[Float64Array]:
    """Probabilities (N, options) a slot of all items, without pixels."""
    parts = []
    for start in range(0, len(cache), size):
        rows = [cache.features(i, pixels=False) for i in range(start, min(start + size, len(cache)))]
        parts.append([table.numpy() for table in reviewer.probabilities(rows)])
    return [np.concatenate(slot) for slot in zip(*parts, strict=True)]
