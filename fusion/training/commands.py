"""What `fusion train`, `export` and `evaluate` do: each model of a task, from its data to its bundle and card."""

from __future__ import annotations

import argparse

from fusion.task import Task, tasks_with_weights
from fusion.training.bundle import bundle_folder, made_elsewhere
from fusion.training.ranks import refuse_several


def train(arguments: argparse.Namespace) -> None:
    """`fusion train`; `all` goes over the tasks whose weights are bundled, `--data` is for those not simulated."""
    if arguments.model == "all":
        for task in map(Task.load, tasks_with_weights()):
            data = None if task.conditions else arguments.data
            _train_all(task, argparse.Namespace(**vars(arguments) | {"data": data}))
        return
    _STEPS[arguments.model](Task.load(arguments.task), arguments)


def _train_all(task: Task, arguments: argparse.Namespace) -> None:
    made_by = made_elsewhere(bundle_folder(task, arguments.weights))
    if made_by:
        print(f"{task.name}: the detector stays; the recipe here makes none as good. It was made by: {made_by}")
    else:
        _detector(task, arguments)
    if task.conditions:
        _fusion(task, arguments)
    _reviewer(task, arguments)


def _detector(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.detection.commands import train_detector

    train_detector(task, arguments)


def _fusion(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.fusion_commands import make_fusion

    make_fusion(task, arguments)


def _novelty(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.fusion_commands import make_references

    make_references(task, arguments)


def _bottleneck(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.bottleneck.make import make_bottleneck

    refuse_several("bottleneck", task)
    make_bottleneck(task, arguments, bundle_folder(task, arguments.weights))


def _reviewer(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.reviewers import make_reviewer

    refuse_several("reviewer", task)
    make_reviewer(task, arguments, bundle_folder(task, arguments.weights))


def _projector(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.projectors import make_projector

    refuse_several("projector", task)
    make_projector(task, arguments, bundle_folder(task, arguments.weights))


def _lora(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.lora.commands import make_lora

    refuse_several("lora", task)
    make_lora(task, arguments, bundle_folder(task, arguments.weights))


_STEPS = {
    "detector": _detector,
    "bottleneck": _bottleneck,
    "fusion": _fusion,
    "novelty": _novelty,
    "reviewer": _reviewer,
    "projector": _projector,
    "lora": _lora,
}


def export(arguments: argparse.Namespace) -> None:
    """`fusion export`."""
    if arguments.model == "lora":
        from fusion.training.lora.commands import export_lora

        export_lora(arguments)
        return
    if arguments.model == "detector":
        from fusion.training.detection.commands import export as export_detector

        export_detector(arguments)
        return
    from fusion.training.fusion_commands import export as export_fusion

    export_fusion(arguments)


def calibrate(arguments: argparse.Namespace) -> None:
    """`fusion calibrate reviewer`."""
    import torch

    from fusion.evaluation.reviewer_calibration import calibrate_reviewer_file, halves, markdown
    from fusion.review import load_reviewer
    from fusion.review.item_cache import ItemCache
    from fusion.review.temperatures import check_writable

    torch.set_num_threads(arguments.threads)
    check_writable(arguments.out)
    fitting = ItemCache.load(arguments.items)
    if arguments.held_out is None:
        fitting, held_out = halves(fitting)
    else:
        held_out = ItemCache.load(arguments.held_out)
    print(markdown(calibrate_reviewer_file(load_reviewer(arguments.name), fitting, held_out, arguments.out)))
    mark = "&" if "?" in arguments.name else "?"
    print(f"reviewer: {arguments.name}{mark}calibration={arguments.out}")


def evaluate(arguments: argparse.Namespace) -> None:
    """`fusion evaluate`."""
    task = Task.load(arguments.task)
    folder = bundle_folder(task, arguments.weights)
    if arguments.model == "detector":
        from fusion.training.detection.commands import evaluate_detector

        evaluate_detector(task, folder, arguments)
    elif arguments.model == "reviewer":
        from fusion.training.reviewers import measure_reviewer

        print(measure_reviewer(task, arguments, folder))
    elif arguments.model == "evidence":
        from fusion.training.reviewers import measure_evidence

        print(measure_evidence(task, arguments, folder))
    else:
        from fusion.training.fusion_commands import measure_fusion

        measure_fusion(task, folder, arguments)
