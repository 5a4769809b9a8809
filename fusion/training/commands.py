"""What `fusion train` and `fusion evaluate` do: each model of a task, from its data to its bundle and card."""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

from fusion.errors import ConfigError
from fusion.task import Task, bundled_tasks
from fusion.training.bundle import add_to_card, write_digests

TRAIN_SCENES, FUSION_SCENES, REVIEW_SCENES, VAL_SCENES = 4000, 4000, 4000, 300
"""Scenes for the detector, for the fusion model, for the reviewer, and for validation. Each model meets those before
it on scenes they have not learnt, where they are no surer than they will be on a device."""
FUSION_FIRST_SEED, REVIEW_FIRST_SEED, VAL_FIRST_SEED, TEST_FIRST_SEED = 50_000, 100_000, 500_000, 900_000


def bundle_folder(task: Task, weights: Path | None) -> Path:
    """Where a task's bundle lies: `weights`, or the package's own."""
    return weights or Path(str(resources.files("fusion").joinpath("weights", task.name)))


def train(arguments: argparse.Namespace) -> None:
    """`fusion train`."""
    if arguments.model == "all":
        for name in bundled_tasks():
            _train_all(Task.load(name), arguments)
        return
    _STEPS[arguments.model](Task.load(arguments.task), arguments)


def _train_all(task: Task, arguments: argparse.Namespace) -> None:
    _detector(task, arguments)
    if task.conditions:
        _fusion(task, arguments)
    _reviewer(task, arguments)


def scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """The scene set the detector learns from, and validation; simulated when `--data` does not give one."""
    if arguments.data:
        return Path(arguments.data)
    from fusion.simulation import Split
    from fusion.simulation.scene_set import write_scene_set

    root = Path(arguments.out) / task.name / "scenes"
    write_scene_set(root, Split.VAL, VAL_SCENES, VAL_FIRST_SEED, workers=arguments.threads)
    write_scene_set(root, Split.TRAIN, TRAIN_SCENES, 0, workers=arguments.threads)
    return root


def _pictures(task: Task, arguments: argparse.Namespace) -> Path:
    if arguments.data:
        return Path(arguments.data)
    raise ConfigError(f"--data is missing: task {task.name} learns from {task.source}; give the folder")


def _detector(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.detectors import make_detector

    data = scenes(task, arguments) if task.conditions else _pictures(task, arguments)
    make_detector(
        task,
        data,
        Path(arguments.out) / task.name,
        bundle_folder(task, arguments.weights),
        test=_test_scenes(Path(arguments.out) / task.name / "test-scenes", 500, arguments.threads)
        if task.conditions
        else data,
        epochs=arguments.epochs,
        threads=arguments.threads,
        resume=arguments.resume,
        start=arguments.start,
    )


def _fusion_scenes(arguments: argparse.Namespace, out: Path) -> Path:
    """The scene set the fusion model learns from."""
    from fusion.simulation import Split
    from fusion.simulation.scene_set import write_scene_set

    root = out / "fusion-scenes"
    write_scene_set(root, Split.TRAIN, FUSION_SCENES, FUSION_FIRST_SEED, workers=arguments.threads)
    return root


def _fusion(task: Task, arguments: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from fusion.codec import Profile
    from fusion.training.fuse import FusionRecipe, spec_for, train_fusion
    from fusion.training.fusion_bundle import export_fusion
    from fusion.training.scene_features import cache_features
    from fusion.training.utterances import load_bank

    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model; only its detector and reviewer are trained")
    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    roots = {"train": _fusion_scenes(arguments, out), "val": scenes(task, arguments)}
    learn, validate = (
        cache_features(root, out / f"features-{split}", task, folder, split=split, threads=arguments.threads)
        for split, root in roots.items()
    )
    recipe = FusionRecipe(threads=arguments.threads)
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    bank = load_bank(out / "utterances.npz", task, seed=recipe.seed)
    spec = spec_for(learn, task, Profile.load(folder), bank)
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
    parity = export_fusion(model, folder)
    report = json.loads((out / "fusion" / "metrics.json").read_text(encoding="utf-8"))
    add_to_card(
        folder,
        {
            "Fusion model, recipe": asdict(recipe)
            | {"scenes": len(learn), "command": f"fusion train fusion --task {task.name}"},
            "Fusion model, validation, all sensors": report["validation"].get("all", {}),
            "Fusion model, largest difference between graph and model": {k: f"{v:.1e}" for k, v in parity.items()},
        },
    )
    write_digests(folder)


def _reviewer(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.reviewers import make_reviewer

    make_reviewer(task, arguments, bundle_folder(task, arguments.weights))


_STEPS = {"detector": _detector, "fusion": _fusion, "reviewer": _reviewer}


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

    root = held_out_scenes(task, arguments) if task.conditions else _pictures(task, arguments)
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


def held_out_scenes(task: Task, arguments: argparse.Namespace) -> Path:
    """Scenes of the test split's appearance, made when `--data` does not give them."""
    if arguments.data:
        return Path(arguments.data)
    return _test_scenes(Path(arguments.out) / f"scenes-{task.name}", arguments.scenes, arguments.threads)


def _test_scenes(root: Path, count: int, workers: int) -> Path:
    from fusion.simulation import Split
    from fusion.simulation.scene_set import write_scene_set

    write_scene_set(root, Split.TEST, count, TEST_FIRST_SEED, workers=workers)
    return root
