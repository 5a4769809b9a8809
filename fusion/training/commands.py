"""What `fusion train` and `fusion evaluate` do: each model of a task, from its data to its bundle and card."""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

from fusion.errors import ConfigError
from fusion.task import Task, tasks_with_weights
from fusion.training.bundle import add_to_card, write_digests
from fusion.training.scene_sets import card_scenes, detector_scenes, fusion_scenes, given_pictures, held_out_scenes

PARITY_SECTION = "Fusion model, largest difference between graph and model"
"""On the card."""


def bundle_folder(task: Task, weights: Path | None) -> Path:
    """Where a task's bundle lies: `weights`, or the package's own."""
    return weights or Path(str(resources.files("fusion").joinpath("weights", task.name)))


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
    from dataclasses import asdict, replace

    from fusion.codec import Profile
    from fusion.training.fuse import FusionRecipe, spec_for, train_fusion
    from fusion.training.fusion_bundle import export_fusion, refuse_worse
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.scene_features import cache_features
    from fusion.training.utterances import load_bank

    if arguments.data and task.area is not None and not task.conditions:
        _ground(task, arguments)
        return
    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model; a driving task learns one from --data RECORDING")
    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    roots = {"train": fusion_scenes(task, arguments), "val": detector_scenes(task, arguments)}
    learn, validate = (
        cache_features(root, out / f"features-{split}", task, folder, split=split, threads=arguments.threads)
        for split, root in roots.items()
    )
    recipe = FusionRecipe(threads=arguments.threads)
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    bank = load_bank(out / "utterances.npz", task, seed=recipe.seed)
    spec = spec_for(learn, task, Profile.load(folder), bank, size=arguments.size)
    model = train_fusion(
        learn,
        out / "fusion",
        recipe,
        spec=spec,
        bank=bank,
        validation=validate,
        resume=arguments.resume,
        start=arguments.start,
    )
    report = json.loads((out / "fusion" / "metrics.json").read_text(encoding="utf-8"))
    refuse_worse(report["validation"]["all"], folder, SceneSampler(validate, spec))
    parity = export_fusion(model, folder)
    add_to_card(
        folder,
        {
            "Fusion model, recipe": asdict(recipe)
            | {"scenes": len(learn), "command": f"fusion train fusion --task {task.name} --size {spec.name}"}
            | ({"start": f"the bundle {arguments.start.name}"} if arguments.start else {}),
            "Fusion model, validation, all sensors": report["validation"]["all"],
            PARITY_SECTION: {k: f"{v:.1e}" for k, v in parity.items()},
        },
    )
    write_digests(folder)


def _ground(task: Task, arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from fusion.training.driving_augment import training_recipe
    from fusion.training.driving_frames import DrivingFrames
    from fusion.training.driving_spec import frame_spec
    from fusion.training.ground import GroundRecipe, driving_model_spec, recall_at, train_ground

    shapes, out = frame_spec(task), Path(arguments.out) / task.name / f"fusion-{arguments.size}"
    frames = DrivingFrames(Path(arguments.data), task, shapes)
    recipe = GroundRecipe(
        threads=arguments.threads, device=arguments.device, augment=None if arguments.as_is else training_recipe()
    )
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    spec = driving_model_spec(task, shapes, arguments.size)
    model, history = train_ground(
        frames, out, recipe, spec=spec, resume=arguments.resume, network_weights=arguments.network_weights
    )
    print(f"wrote {out / 'model'} after {len(history)} epochs; last losses {history[-1]}")
    print(f"of the objects it learnt from it finds {recall_at(model, frames):.2f} within 1 m (no held-out figure)")


def _reviewer(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.reviewers import make_reviewer

    make_reviewer(task, arguments, bundle_folder(task, arguments.weights))


_STEPS = {"detector": _detector, "fusion": _fusion, "reviewer": _reviewer}


def export(arguments: argparse.Namespace) -> None:
    """`fusion export`: the fusion model of a bundle as graphs, proven equal to it, or as a variant in fewer bits."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.fusion_bundle import export_fusion

    folder = bundle_folder(Task.load(arguments.task), arguments.weights)
    if arguments.precision != "f32":
        _export_variant(folder, arguments)
        return
    out = arguments.out or folder
    parity = export_fusion(load_fusion(folder), out)
    for name, difference in parity.items():
        print(f"{name:<32} largest difference {difference:.1e}")
    if (out / "card.json").is_file():
        add_to_card(out, {PARITY_SECTION: {k: f"{v:.1e}" for k, v in parity.items()}})
    write_digests(out)


def _export_variant(folder: Path, arguments: argparse.Namespace) -> None:
    from fusion.training.precision import Wanted, report, write_variant

    if arguments.out is None:
        raise ConfigError(f"--precision {arguments.precision} needs --out: a folder for the variant, beside no bundle")
    data = arguments.data or Path("runs") / arguments.task
    wanted = Wanted(arguments.precision, data, max_loss=arguments.max_loss, threads=arguments.threads)
    print(report(write_variant(folder, arguments.out, wanted)))


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
        _evaluate_fusion(task, folder, arguments)


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


def _evaluate_fusion(task: Task, folder: Path, arguments: argparse.Namespace) -> None:
    from fusion.model.checkpoint import load_fusion
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.fusion_metrics import evaluate_fusion, table
    from fusion.training.scene_features import cache_features

    root = held_out_scenes(task, arguments)
    out = Path(arguments.out) / f"features-{task.name}-{arguments.split}"
    cache = cache_features(root, out, task, folder, split=arguments.split, threads=arguments.threads)
    model = load_fusion(folder)
    print(table(evaluate_fusion(model, SceneSampler(cache, model.spec))))
