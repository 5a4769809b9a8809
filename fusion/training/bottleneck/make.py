"""`fusion train bottleneck`: a bundle's detector with projections learnt for its reviewer, as a bundle of its own."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import ConfigError, ModelError
from fusion.json_text import parse_json
from fusion.preparation import letterbox, to_input
from fusion.preparation.fusion_spec import SPEC_NAME
from fusion.review.checkpoint import load_reviewer_files
from fusion.task import Task
from fusion.training.bottleneck.cells import build_cells
from fusion.training.bottleneck.learning import BottleneckRecipe, BottleneckRun, begin, train_bottleneck
from fusion.training.bottleneck.network import Bottleneck
from fusion.training.bottleneck.taps import Tap, read_taps, replace_projections
from fusion.training.bundle import GRAPH_NAME, write_card, write_digests
from fusion.training.detection.export import refit_profile
from fusion.training.detection.make import CALIBRATION_IMAGES
from fusion.training.detection.sources import calibration_pictures, image_folder
from fusion.training.review_sources import FolderMoments, held_out
from fusion.training.reviewers import PCB_VARIANTS
from fusion.training.scene_sets import given_pictures
from fusion.training.variants import staged
from fusion.types import UInt8Array

_CARD = "card.json"
_OF_THE_REVIEWER = ("Reviewer", "Evidence by rate")
_PREDICTIONS = "predictions"


def make_bottleneck(task: Task, arguments: argparse.Namespace, folder: Path) -> None:
    """Learn the projections of the bundle in `folder`; writes `OUT/TASK/bottleneck/bundle`, which has no reviewer yet.

    Raises `ConfigError` for a task whose fusion model reads the codes, and `ModelError` for an unsuitable bundle.
    """
    if (folder / SPEC_NAME).is_file() or task.conditions:
        raise ConfigError(
            f"--task {task.name}: its fusion model reads the same codes as the reviewer; only a task without one (pcb) "
            "can learn a bottleneck"
        )
    card = _card(folder)
    recipe = _recipe(arguments)
    out = Path(arguments.out) / task.name / "bottleneck"
    with staged(out / "bundle") as part:
        pictures = image_folder(task, given_pictures(task, arguments))
        profile, learn_stems = Profile.load(folder), held_out(pictures.stems("trainval"))
        taps = read_taps(folder / GRAPH_NAME, profile)
        items, validation = (
            build_cells(out / name, task, folder, taps, source, threads=recipe.threads)
            for name, source in (
                ("cells-train", FolderMoments(pictures, task, learn_stems[0], PCB_VARIANTS)),
                ("cells-val", FolderMoments(pictures, task, learn_stems[1])),
            )
        )
        bottleneck = begin(items, taps, [float(level.step.mean()) for level in profile.levels], recipe.seed)
        reviewer = load_reviewer_files(folder / "reviewer")
        run = train_bottleneck(
            items, validation, bottleneck, reviewer.network, recipe, out,
            begun_with=f"{profile.trunk_sha256} {reviewer.fingerprint}", resume=arguments.resume,
        )  # fmt: skip
        images = calibration_pictures(pictures, CALIBRATION_IMAGES)
        made = write_bundle(part, folder, profile, taps, bottleneck, images, threads=recipe.threads)
        _tell(part, card, recipe, run, items=len(items), begun_with=profile, made=made)
    print(table(run))
    print(f"wrote {out / 'bundle'}: a new trunk; give it a reviewer before a device uses it:")
    print(f"fusion train reviewer --task {task.name} --data {arguments.data} --weights {out / 'bundle'}")


def write_bundle(
    out: Path,
    base: Path,
    profile: Profile,
    taps: tuple[Tap, ...],
    bottleneck: Bottleneck,
    images: list[UInt8Array],
    *,
    threads: int,
) -> Profile:
    """The bundle `base` with the bottleneck's projections and the tables that its codes of `images` need, no reviewer.

    Raises `ModelError` if the detector would see anything else than before.
    """
    linears = [level.encoder for level in bottleneck.levels]
    weights, biases = ([getattr(x, name).detach().numpy() for x in linears] for name in ("weight", "bias"))
    graph = out / GRAPH_NAME
    replace_projections(base / GRAPH_NAME, taps, weights, biases, graph)
    _check_same(base / GRAPH_NAME, graph, profile, images[0], threads)
    made = refit_profile(profile, graph, images, threads=threads)
    made.save(out)
    return made


def table(run: BottleneckRun) -> str:
    """The figures of the items that validate, as it was and after each epoch."""
    lines = [
        "| epoch | bits an item | verdicts right | cross-entropy | at the coarsest rate | the head loses |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in (("before", run.before), *((f"{row['epoch']:.0f}", row) for row in run.epochs)):
        lines.append(
            f"| {name} | {row['bits']:,.0f} | {row['verdict']:.3f} | {row['nll']:.3f} | {row['verdict_least']:.3f}, "
            f"{row['nll_least']:.3f} | {row['head']:.3f} |"
        )
    return "\n".join(lines)


def _check_same(old: Path, new: Path, profile: Profile, image: UInt8Array, threads: int) -> None:
    inputs = {"images": to_input(letterbox(image, profile.image_width, profile.image_height)[0])}
    before, after = (
        load_engine(path, backend="onnxruntime", threads=threads).run(inputs)[_PREDICTIONS] for path in (old, new)
    )
    if not np.array_equal(before, after):
        raise ModelError(f"{old}: with other projections its boxes change; give a bundle of fusion's own export")


def _card(folder: Path) -> dict[str, Any]:
    """The card of the bundle that is begun with. Raises `ModelError` when it has none, or no reviewer."""
    if not (folder / _CARD).is_file() or not (folder / "reviewer").is_dir():
        raise ModelError(f"{folder}: a bottleneck begins with a bundle's card and reviewer; give one that has both")
    try:
        card = parse_json((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / _CARD}: not a card ({error}); give another bundle") from None
    if not isinstance(card, dict):
        raise ModelError(f"{folder / _CARD}: not a card; give another bundle")
    return card


def _tell(
    out: Path,
    card: dict[str, Any],
    recipe: BottleneckRecipe,
    run: BottleneckRun,
    *,
    items: int,
    begun_with: Profile,
    made: Profile,
) -> None:
    """The card as it was but for what it says of a reviewer of other codes, and what the bottleneck is made of."""
    kept = {name: value for name, value in card.items() if not name.startswith(_OF_THE_REVIEWER)}
    title = str(kept.pop("title", f"Detector of task {made.task}"))
    facts = kept | {
        "Bottleneck, recipe": asdict(recipe) | {"items": items, "begun with": begun_with.trunk_sha256},
        "Bottleneck, validation": {name: round(value, 4) for name, value in run.epochs[-1].items()},
        "Bottleneck, before": {name: round(value, 4) for name, value in run.before.items()},
        "Fingerprint": {"profile_sha256": made.sha256, "trunk_sha256": made.trunk_sha256},
    }
    write_card(out, title, facts)
    write_digests(out)


def _recipe(arguments: argparse.Namespace) -> BottleneckRecipe:
    """The recipe with what the command line says otherwise. Raises `ConfigError` for a number that cannot be."""
    recipe = BottleneckRecipe(threads=arguments.threads)
    if arguments.epochs is not None:
        recipe = replace(recipe, epochs=arguments.epochs)
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if arguments.rate_weight is not None:
        if not 0 <= arguments.rate_weight < 1:
            raise ConfigError(f"--rate-weight {arguments.rate_weight:g}: give nats a bit, from 0 to less than 1")
        recipe = replace(recipe, rate_weight=arguments.rate_weight)
    return recipe
