"""`fusion train reviewer` and `fusion evaluate reviewer`: items, training, calibration, the gate, the table."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fusion.evaluation.reviewer import calibrate_reviewer, escalated, evaluate_reviewer, markdown
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.together import combinations_of, save_together
from fusion.task import Task
from fusion.training.bundle import add_to_card, drafted, write_digests
from fusion.training.detection.sources import image_folder
from fusion.training.rate_card import MOMENTS, escalated_moments, measure_rates
from fusion.training.review_items import Device, ItemRecipe, build_item_cache
from fusion.training.review_sources import FolderMoments, MomentSource, YardMoments, held_out
from fusion.training.reviewer import recipe_for, train_reviewer
from fusion.training.reviewer_gate import HELD_SECTION, held_to, refuse_worse
from fusion.training.scene_sets import detector_scenes, given_pictures, held_out_scenes, review_scenes, tuning_scenes

PCB_VARIANTS = 3
"""How many ways each training picture is shown to the device."""
ABSENT = 0.1
"""Share of training scenes without LiDAR, and of scenes without a microphone."""


def make_reviewer(task: Task, arguments: argparse.Namespace, folder: Path) -> None:
    """Cache items, train, calibrate, and bundle `reviewer/`; a reviewer worse on validation is not bundled."""
    out = Path(arguments.out) / task.name
    cache, validation, validate = training_items(task, arguments, folder)
    recipe = recipe_for(flips=not task.conditions, threads=arguments.threads)
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    held = held_to(folder, validation)
    run = train_reviewer(cache, out / "reviewer", recipe, validation=validation, resume=arguments.resume)
    trained = out / "reviewer" / "reviewer"
    save_together(trained, task, combinations_of(cache.columns["truth"]))
    facts = calibrate_reviewer(trained, validation, rows=escalated(validation))
    best = refuse_worse(MiniReviewer.load(str(trained)), validation, held, folder)
    rates = _rates(task, folder, trained, validate, validation)
    plain = {k: v for k, v in asdict(recipe).items() if not isinstance(v, dict)}
    with drafted(folder) as draft:
        shutil.copytree(trained, draft / "reviewer")
        add_to_card(
            draft,
            {
                "Reviewer, recipe": plain
                | {
                    "coarse_rates": recipe.disturbance.coarse_rates,
                    "items": len(cache),
                    "parameters": run.parameters,
                    "command": f"fusion train reviewer --task {task.name} --epochs {recipe.epochs}",
                },
                "Reviewer, validation": {name: round(value, 4) for name, value in run.best.items()},
                HELD_SECTION: best,
                "Reviewer, calibration": {
                    name: f"ECE {slot['ece_before']:.3f} before, {slot['ece']:.3f} after"
                    for name, slot in facts["slots"].items()
                },
                "Evidence by rate, validation": rates,
            },
        )


def training_items(
    task: Task, arguments: argparse.Namespace, folder: Path
) -> tuple[ItemCache, ItemCache, MomentSource]:
    """Items to learn from and to validate on, as the device of the bundle in `folder` makes them, and what the latter
    were made from; kept under `--out`.
    """
    out = Path(arguments.out) / task.name
    learn, validate = _training_sources(task, arguments)
    for name, source in (("review-train", learn), ("review-val", validate)):
        build_item_cache(out / name, task, folder, source, ItemRecipe(), workers=arguments.threads)
    return ItemCache.load(out / "review-train"), ItemCache.load(out / "review-val"), validate


def measure_evidence(task: Task, arguments: argparse.Namespace, folder: Path) -> str:
    """The table of the rates of evidence on held-out items; with `--card` it becomes part of the bundle's card."""
    out = Path(arguments.out) / f"items-{task.name}-{arguments.split}"
    source = _test_source(task, arguments)
    build_item_cache(out, task, folder, source, ItemRecipe(), workers=arguments.threads)
    told = _rates(task, folder, folder / "reviewer", source, ItemCache.load(out))
    if arguments.card:
        add_to_card(folder, {f"Evidence by rate, {arguments.split}": told})
        write_digests(folder)
    return "\n".join(f"{name:<8} {line}" for name, line in told.items())


def _rates(task: Task, folder: Path, reviewer: Path, source: MomentSource, cache: ItemCache) -> dict[str, str]:
    """What each rate costs, and is worth to the reviewer in `reviewer` behind the device of the bundle `folder`."""
    device = Device.load(task, folder, ItemRecipe())
    moments = escalated_moments(source, cache, most=MOMENTS)
    items, figures = measure_rates(device, MiniReviewer.load(str(reviewer)), moments)
    return {"escalated items": f"{items}"} | {name: found.told() for name, found in figures.items()}


def measure_reviewer(task: Task, arguments: argparse.Namespace, folder: Path) -> str:
    """The table of the bundled reviewer on held-out items, written under `--out` too."""
    out = Path(arguments.out)
    name = f"items-{task.name}-{arguments.split}"
    tuning = f"items-{task.name}-val"
    for items, source in ((name, _test_source(task, arguments)), (tuning, _tuning_source(task, arguments))):
        build_item_cache(out / items, task, folder, source, ItemRecipe(), workers=arguments.threads)
    reviewer = MiniReviewer.load(str(folder / "reviewer"))
    report: dict[str, Any] = evaluate_reviewer(
        reviewer, ItemCache.load(out / name), out / task.name, validation=ItemCache.load(out / tuning)
    )
    return markdown(report)


def _training_sources(task: Task, arguments: argparse.Namespace) -> tuple[MomentSource, MomentSource]:
    if not task.conditions:
        pictures = image_folder(task, given_pictures(task, arguments))
        learn, held = held_out(pictures.stems("trainval"))
        return FolderMoments(pictures, task, learn, PCB_VARIANTS), FolderMoments(pictures, task, held)
    learnt, validation = review_scenes(task, arguments), detector_scenes(task, arguments)
    return YardMoments.of_split(learnt, task, "train", absent=ABSENT), YardMoments.of_split(validation, task, "val")


def _test_source(task: Task, arguments: argparse.Namespace) -> MomentSource:
    if not task.conditions:
        pictures = image_folder(task, given_pictures(task, arguments))
        return FolderMoments(pictures, task, tuple(pictures.stems(arguments.split)))
    return YardMoments.of_split(held_out_scenes(task, arguments), task, arguments.split)


def _tuning_source(task: Task, arguments: argparse.Namespace) -> MomentSource:
    """Where the rivals' thresholds are chosen: never on the test items."""
    if not task.conditions:
        pictures = image_folder(task, given_pictures(task, arguments))
        return FolderMoments(pictures, task, held_out(pictures.stems("trainval"))[1])
    return YardMoments.of_split(tuning_scenes(task, arguments), task, "val")
