"""What `fusion train` and `fusion evaluate` do: each model of a task, from its data to its bundle and card."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusion.task import Task, tasks_with_weights
from fusion.training.bundle import bundle_folder
from fusion.training.ranks import refuse_several
from fusion.training.scene_sets import card_scenes, detector_scenes, given_pictures, held_out_scenes


def train(arguments: argparse.Namespace) -> None:
    """`fusion train`; `all` goes over the tasks whose weights are bundled."""
    if arguments.model == "all":
        for name in tasks_with_weights():
            _train_all(Task.load(name), arguments)
        return
    _STEPS[arguments.model](Task.load(arguments.task), arguments)


def _train_all(task: Task, arguments: argparse.Namespace) -> None:
    _detector(task, arguments)
    if task.conditions:
        _fusion(task, arguments)
    _reviewer(task, arguments)


def _detector(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.detectors import make_detector

    refuse_several("detector", task)
    data = detector_scenes(task, arguments) if task.conditions else given_pictures(task, arguments)
    make_detector(
        task,
        data,
        Path(arguments.out) / task.name,
        bundle_folder(task, arguments.weights),
        test=card_scenes(task, arguments) if task.conditions else data,
        epochs=arguments.epochs,
        threads=arguments.threads,
        resume=arguments.resume,
        start=arguments.start,
    )


def _fusion(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.fusion_commands import make_fusion

    make_fusion(task, arguments)


def _novelty(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.fusion_commands import make_references

    make_references(task, arguments)


def _reviewer(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.reviewers import make_reviewer

    refuse_several("reviewer", task)
    make_reviewer(task, arguments, bundle_folder(task, arguments.weights))


_STEPS = {"detector": _detector, "fusion": _fusion, "novelty": _novelty, "reviewer": _reviewer}


def evaluate(arguments: argparse.Namespace) -> None:
    """`fusion evaluate`."""
    task = Task.load(arguments.task)
    folder = bundle_folder(task, arguments.weights)
    if arguments.model == "detector":
        _evaluate_detector(task, folder, arguments)
    elif arguments.model == "reviewer":
        from fusion.training.reviewers import measure_reviewer

        print(measure_reviewer(task, arguments, folder))
    else:
        from fusion.training.fusion_commands import measure_fusion

        measure_fusion(task, folder, arguments)


def _evaluate_detector(task: Task, folder: Path, arguments: argparse.Namespace) -> None:
    from fusion.training.detectors import measure_detector
    from fusion.training.sources import image_folder

    root = held_out_scenes(task, arguments) if task.conditions else given_pictures(task, arguments)
    pictures = image_folder(task, root)
    found = measure_detector(
        task, folder, map(pictures.load, pictures.stems(arguments.split)), threads=arguments.threads
    )
    print(f"{task.name}: mAP50 {found.map50:.4f}, mAP50-95 {found.map50_95:.4f} on {found.images} images")
    for name, value in found.ap50.items():
        print(f"  {name:<12} AP50 {value:.4f}")
