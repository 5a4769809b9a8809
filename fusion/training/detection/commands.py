"""What the commands about detectors do: `fusion train`, `distill`, `prune`, `export` and `evaluate detector`."""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

from fusion.errors import ConfigError, InputError, ModelError
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME, bundle_folder
from fusion.training.detection.architectures import DEFAULT
from fusion.training.detection.checkpoint import SUFFIX, find_checkpoint, is_official
from fusion.training.detection.input_size import MULTIPLE, check_image_size, input_size
from fusion.training.detection.recipe import DetectorRecipe, recipe_for
from fusion.training.detection.runs import refuse_taken
from fusion.training.ranks import refuse_several
from fusion.training.scene_sets import card_scenes, detector_scenes, given_pictures, held_out_scenes
from fusion.training.variants import check_max_loss, refuse_existing, staged

_COUNTS = ("epochs", "batch", "image_size", "seed")
_SHARES = ("mosaic", "scale", "transpose")


def train_detector(task: Task, arguments: argparse.Namespace) -> None:
    """`fusion train detector`: from pictures to the bundle."""
    from fusion.training.detection.make import RUN, make_detector

    _check_task(task)
    recipe = _recipe(task, arguments)
    refuse_taken(_run(task, arguments) / RUN, start=recipe.start, resume=arguments.resume)
    data = _pictures(task, arguments)
    make_detector(
        task,
        data,
        _run(task, arguments),
        bundle_folder(task, arguments.weights),
        recipe,
        test=card_scenes(task, arguments) if task.conditions else data,
        resume=arguments.resume,
    )


def distill(arguments: argparse.Namespace) -> None:
    """`fusion distill`: a student of a larger teacher, and the table of what that was worth."""
    from fusion.training.detection.distill import (
        DISTILLED,
        TABLE_NAME,
        Wanted,
        check_teacher,
        distill_detector,
        runs_of,
    )
    from fusion.training.detection.sources import training_data
    from fusion.training.detection.validation import table

    task = Task.load(arguments.task)
    _check_task(task)
    recipe, out = _recipe(task, arguments), _run(task, arguments)
    if arguments.teacher_epochs is not None:
        _check_positive("teacher_epochs", arguments.teacher_epochs)
    weights = _given_weights(arguments)
    check_teacher(arguments.teacher)
    wanted = Wanted(
        arguments.teacher,
        recipe,
        arguments.teacher_epochs,
        compare=arguments.compare,
        resume=arguments.resume,
        weights=weights,
    )
    for name in runs_of(wanted):
        refuse_taken(out / "distill" / name, start=recipe.start, resume=arguments.resume)
    yaml = training_data(task, _pictures(task, arguments), out, recipe.image_size)
    print(table(distill_detector(yaml, out / "distill", wanted)))
    best = out / "distill" / "distilled" / "weights" / f"best{SUFFIX}"
    print(f"wrote {out / 'distill' / TABLE_NAME}; the {DISTILLED.replace(' ', ' that was ')} is {best}")
    print(f"bundle it with: fusion export detector --task {arguments.task} --weights {best} --out FOLDER --data DATA")


def prune(arguments: argparse.Namespace) -> None:
    """`fusion prune`: a detector with fewer channels, trained on."""
    from fusion.training.detection.prune import TABLE_NAME, prune_detector
    from fusion.training.detection.pruning import check_share
    from fusion.training.detection.sources import training_data
    from fusion.training.detection.validation import table

    task = Task.load(arguments.task)
    _check_task(task)
    check_share(arguments.share)
    out, start = _run(task, arguments), find_checkpoint(arguments.start)
    recipe = replace(_recipe(task, arguments, least_epochs=0), architecture="")
    refuse_taken(out / "prune", start=str(start), resume=arguments.resume)
    yaml = training_data(task, _pictures(task, arguments), out, recipe.image_size)
    print(table(prune_detector(yaml, start, arguments.share, out / "prune", recipe, resume=arguments.resume)))
    print(f"wrote {out / 'prune' / TABLE_NAME} and the checkpoints beside it")


def export(arguments: argparse.Namespace) -> None:
    """`fusion export detector`: a checkpoint as a bundle, or a bundle's detector in fewer bits or for TensorRT."""
    task = Task.load(arguments.task)
    if arguments.out is None:
        raise ConfigError("fusion export detector needs --out: a folder for the detector, beside no bundle")
    input_size(task)
    refuse_existing(arguments.out)
    check_max_loss(arguments.max_loss)
    weights = bundle_folder(task, arguments.weights)
    if (arguments.engine == "tensorrt") != (arguments.precision == "fp16"):
        raise ConfigError("--precision fp16 is what --engine tensorrt computes in; give both or neither")
    checkpoint = None if (weights / GRAPH_NAME).is_file() else find_checkpoint(weights)
    data = _given(task, arguments)
    if checkpoint is None:
        _export_bundle(task, weights, data, arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.precision == "f32":
            with staged(arguments.out) as part:
                _export_checkpoint(task, checkpoint, data, part, Path(scratch), arguments)
            print(f"wrote {arguments.out}")
            return
        whole = Path(scratch) / "bundle"
        _export_checkpoint(task, checkpoint, data, whole, Path(scratch), arguments)
        _export_bundle(task, whole, data, arguments)


def _export_checkpoint(
    task: Task, checkpoint: Path, data: Path, out: Path, scratch: Path, arguments: argparse.Namespace
) -> None:
    from fusion.training.detection.architectures import named, parameters
    from fusion.training.detection.checkpoint import how_trained, read_checkpoint
    from fusion.training.detection.make import bundle_detector

    network = read_checkpoint(checkpoint)
    told = {
        "architecture": named(network),
        "parameters": parameters(network),
        "checkpoint": checkpoint.name,
        **how_trained(checkpoint),
        "command": f"fusion export detector --task {task.name}",
    }
    if arguments.made_by:
        told["made by"] = arguments.made_by
    found = bundle_detector(
        task, data, checkpoint, out, told, staging=scratch / "staging", test=data, threads=arguments.threads
    )
    print(f"{task.name}: mAP50 {found.map50:.4f}, mAP50-95 {found.map50_95:.4f} on {found.images} images")


def _export_bundle(task: Task, bundle: Path, data: Path, arguments: argparse.Namespace) -> None:
    from fusion.training.detection.sources import image_folder
    from fusion.training.detection.variant import Wanted, report, write_detector_variant

    if arguments.precision == "f32":
        raise ConfigError(f"{bundle} is a float32 bundle already; give --precision, or a checkpoint in --weights")
    pictures = image_folder(task, data)
    if arguments.engine == "tensorrt":
        from fusion.training.detection.tensorrt import write_plan

        print(write_plan(task, bundle, pictures, arguments.out, max_loss=arguments.max_loss, threads=arguments.threads))
        return
    wanted = Wanted(arguments.precision, max_loss=arguments.max_loss, threads=arguments.threads)
    facts = write_detector_variant(task, bundle, pictures, arguments.out, wanted)
    print(report(facts))
    if facts["profile_sha256"]["variant"] != facts["profile_sha256"]["float32"]:
        print(
            f"a new trunk: profile {facts['profile_sha256']['variant'][:12]} instead of "
            f"{facts['profile_sha256']['float32'][:12]}; serve it before a device uses it (docs/models.md)"
        )


def evaluate_detector(task: Task, folder: Path, arguments: argparse.Namespace) -> None:
    """`fusion evaluate detector`."""
    from fusion.training.detection.measure import measure_detector
    from fusion.training.detection.sources import image_folder

    root = held_out_scenes(task, arguments) if task.conditions else given_pictures(task, arguments)
    pictures = image_folder(task, root)
    found = measure_detector(
        task, folder, map(pictures.load, pictures.stems(arguments.split)), threads=arguments.threads
    )
    print(f"{task.name}: mAP50 {found.map50:.4f}, mAP50-95 {found.map50_95:.4f} on {found.images} images")
    for name, value in found.ap50.items():
        print(f"  {name:<12} AP50 {value:.4f}")


def _check_task(task: Task) -> None:
    """Raise `ConfigError` when no detector of `task` could be trained and exported."""
    refuse_several("detector", task)
    input_size(task)


def _run(task: Task, arguments: argparse.Namespace) -> Path:
    return Path(arguments.out) / task.name


def _pictures(task: Task, arguments: argparse.Namespace) -> Path:
    return detector_scenes(task, arguments) if task.conditions else given_pictures(task, arguments)


def _given(task: Task, arguments: argparse.Namespace) -> Path:
    """The pictures an export needs: those given, or a simulated task's scenes that training left behind."""
    if not task.conditions or arguments.data:
        return given_pictures(task, arguments)
    scenes = Path("runs") / task.name / "scenes"
    if not scenes.is_dir():
        raise ConfigError(f"--data is missing and {scenes} is not there; give the scenes the detector learnt from")
    return scenes


def _recipe(task: Task, arguments: argparse.Namespace, *, least_epochs: int = 1) -> DetectorRecipe:
    """The task's recipe with what the command line says otherwise."""
    from fusion.training.detection.architectures import definition
    from fusion.training.detection.train import check_device

    start = _origin(arguments.start)
    recipe = replace(recipe_for(task.name), start=start, threads=arguments.threads, device=arguments.device)
    architecture = getattr(arguments, "architecture", None)
    if architecture is not None:
        definition(architecture)
        recipe = replace(recipe, architecture=architecture)
    elif start.endswith(SUFFIX):
        recipe = replace(recipe, architecture="")
    given = _given_numbers(arguments, least_epochs)
    recipe = replace(recipe, **given)  # type: ignore[arg-type]
    check_device(recipe.device)
    return recipe


def _given_numbers(arguments: argparse.Namespace, least_epochs: int) -> dict[str, float]:
    """The numbers of a recipe that the command line gives, by name. Raises `ConfigError` for one that cannot be."""
    given = {name: getattr(arguments, name) for name in (*_COUNTS, *_SHARES, "learning_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    check_image_size(int(given.get("image_size", MULTIPLE)))
    for name in _COUNTS:
        least = {"epochs": least_epochs, "seed": 0}.get(name, 1)
        _check_positive(name, given.get(name, least), least)
    for name in _SHARES:
        if not 0 <= given.get(name, 0) <= 1:
            raise ConfigError(f"--{name} {given[name]:g}: give a share from 0 to 1")
    if not 0 < given.get("learning_rate", 0.1) < 1:
        raise ConfigError(f"--learning-rate {given['learning_rate']:g}: give more than 0 and less than 1")
    return given


def _given_weights(arguments: argparse.Namespace) -> dict[str, float]:
    """The weights of the teacher's terms that the command line gives, by name. Raises `ConfigError` for one that none
    can have: less than nothing would teach the contrary, and nan spoils every step.
    """
    given = {name: getattr(arguments, f"{name}_weight") for name in ("maps", "classes", "boxes")}
    given = {name: weight for name, weight in given.items() if weight is not None}
    for name, weight in given.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"--{name}-weight {weight:g}: give 0 or more")
    return given


def _check_positive(name: str, given: int, least: int = 1) -> None:
    """Raise `ConfigError` for less than `least`: ultralytics takes 0 epochs for "as many as usual"."""
    if given < least:
        raise ConfigError(f"--{name.replace('_', '-')} {given}: give {least} or more")


def _origin(start: Path | None) -> str:
    """What `--start` means: nothing, a checkpoint, one of ultralytics' own, a run's folder, or a bundle's."""
    if start is None:
        return ""
    if is_official(start):
        return str(find_checkpoint(start))
    if not start.exists():
        raise ModelError(
            f"{start}: nothing to start from there; give a checkpoint {SUFFIX}, the folder of a bundle, or the name of "
            f"one of ultralytics' own: {DEFAULT}{SUFFIX}"
        )
    if start.is_dir() and not (start / GRAPH_NAME).is_file():
        return str(find_checkpoint(start))
    if start.is_file() and start.suffix != SUFFIX:
        raise InputError(f"{start}: training starts from an ultralytics checkpoint {SUFFIX} or the folder of a bundle")
    return str(start)
