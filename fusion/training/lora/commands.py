"""`fusion train lora` and `fusion export lora`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.errors import ConfigError
from fusion.review.item_cache import ItemCache
from fusion.task import Task
from fusion.training.lora.learning import ADAPTER, merge_adapter, train_lora
from fusion.training.lora.low_rank import require_peft
from fusion.training.lora.recipe import LoraRecipe
from fusion.training.reviewers import training_items
from fusion.training.variants import refuse_existing

_GIVEN = {
    "epochs": "epochs",
    "batch": "batch",
    "learning_rate": "learning_rate",
    "seed": "seed",
    "rank": "rank",
    "alpha": "alpha",
}


def make_lora(task: Task, arguments: argparse.Namespace, bundle: Path) -> None:
    """Cache the items of the task's own reviewer or take those given, train, merge; prints what came of it."""
    require_peft()
    if not arguments.reviewer:
        raise ConfigError("fusion train lora: whose? give --reviewer mini:TASK-OR-FOLDER or hf:PATH?projector=FOLDER")
    recipe = _recipe(arguments, flips=not task.conditions)
    out = Path(arguments.out) / task.name / "lora"
    refuse_existing(out)
    cache, validation, data = _items(task, arguments, bundle)
    run = train_lora(arguments.reviewer, cache, validation, recipe, out, data=data, resume=arguments.resume)
    print(
        f"{out}: verdicts right {run.served['verdict']:.3f} (before: {run.start['verdict']:.3f}), log-loss "
        f"{run.served['nll']:.3f} ({run.start['nll']:.3f}) on {len(validation)} items; {run.trainable} of "
        f"{run.parameters} numbers learnt ({run.trainable / run.parameters:.2%})"
    )
    print(f"reviewer: {run.name}\nadapter: {out / ADAPTER}")


def export_lora(arguments: argparse.Namespace) -> None:
    """Merge an adapter into its base; prints how the reviewer is called."""
    for option in ("reviewer", "adapter", "out"):
        if not getattr(arguments, option):
            raise ConfigError(f"fusion export lora: --{option} is missing")
    print(f"reviewer: {merge_adapter(arguments.reviewer, arguments.adapter, arguments.out)}")


def _recipe(arguments: argparse.Namespace, *, flips: bool) -> LoraRecipe:
    given: dict[str, Any] = {field: getattr(arguments, option) for option, field in _GIVEN.items()}
    given = {field: value for field, value in given.items() if value is not None}
    if "rank" in given and "alpha" not in given:
        given["alpha"] = 2 * given["rank"]
    if arguments.target_modules:
        given["targets"] = tuple(part.strip() for part in arguments.target_modules.split(",") if part.strip())
    recipe = LoraRecipe(threads=arguments.threads, **given)
    return replace(recipe, disturbance=replace(recipe.disturbance, flips=flips))


def _items(task: Task, arguments: argparse.Namespace, bundle: Path) -> tuple[ItemCache, ItemCache, str]:
    if arguments.items is None:
        cache, validation, _ = training_items(task, arguments, bundle)
        return cache, validation, f"{task.source}, as the device of the task's bundle sees it"
    learn, held = (ItemCache.load(folder) for folder in arguments.items)
    for folder, items in zip(arguments.items, (learn, held), strict=True):
        if items.task != learn.task or items.task.name != task.name:
            raise ConfigError(f"{folder}: has items of task {items.task.name}, not of {task.name} as the others")
    return learn, held, " and ".join(folder.name for folder in arguments.items)
