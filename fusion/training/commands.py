"""What `fusion train` and `fusion evaluate` do: each model of a task, from its data to its bundle and card."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.errors import ConfigError
from fusion.task import Task, tasks_with_weights
from fusion.training.bundle import add_to_card, write_digests
from fusion.training.scene_sets import card_scenes, detector_scenes, fusion_scenes, given_pictures, held_out_scenes

if TYPE_CHECKING:
    from fusion.preparation.fusion_spec import FusionSpec
    from fusion.training.scene_features import FeatureCache
    from fusion.training.utterances import UtteranceBank

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
    from dataclasses import replace

    from fusion.training.fuse import FusionRecipe, train_fusion
    from fusion.training.fusion_bundle import export_fusion, refuse_worse
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.scene_features import cache_features

    if arguments.data and task.area is not None and not task.conditions:
        _ground(task, arguments)
        return
    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model; a driving task learns one from --data RECORDING")
    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    learn, bank, spec = _material(task, arguments)
    validate = cache_features(
        detector_scenes(task, arguments), out / "features-val", task, folder, split="val", threads=arguments.threads
    )
    recipe = FusionRecipe(threads=arguments.threads)
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
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


def _material(task: Task, arguments: argparse.Namespace) -> tuple[FeatureCache, UtteranceBank, FusionSpec]:
    """What a fusion model of items learns from, and its description."""
    from fusion.codec import Profile
    from fusion.training.fuse import spec_for
    from fusion.training.scene_features import cache_features
    from fusion.training.utterances import load_bank

    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    scenes = fusion_scenes(task, arguments)
    learn = cache_features(scenes, out / "features-train", task, folder, split="train", threads=arguments.threads)
    bank = load_bank(out / "utterances.npz", task)
    return learn, bank, spec_for(learn, task, Profile.load(folder), bank, size=arguments.size)


def pretrain(arguments: argparse.Namespace) -> None:
    """`fusion pretrain`: a fusion model that has seen scenes, but no label of theirs."""
    import torch

    from fusion.model.build import build_fusion
    from fusion.model.checkpoint import save_fusion
    from fusion.training.fixed_budget import Budget
    from fusion.training.fusion_data import ModalityDropout, SceneSampler
    from fusion.training.pretrain import pretrain as run

    task = Task.load(arguments.task)
    if not task.conditions:
        raise ConfigError(f"task {task.name} has no scenes to pretrain on; simulated tasks such as yard have")
    torch.set_num_threads(arguments.threads)
    learn, _, spec = _material(task, arguments)
    budget = Budget(steps=arguments.steps, batch=arguments.batch, seed=arguments.seed)
    torch.manual_seed(budget.seed)
    model = build_fusion(spec)
    sampler = SceneSampler(learn, spec, dropout=ModalityDropout(0.0, 0.0), device=arguments.device)
    losses = run(model, sampler, budget, arguments.objective)
    out = Path(arguments.out) / task.name / f"pretrain-{arguments.objective}"
    save_fusion(out, model.cpu())
    report = {"objective": arguments.objective, "budget": asdict(budget), "scenes": len(learn), "loss": losses}
    (out / "metrics.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {out}; loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
    print(f"go on with: fusion train fusion --task {task.name} --start {out}")


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
    """`fusion export`: the fusion model of a bundle as graphs, proven equal to it."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.fusion_bundle import export_fusion

    folder = bundle_folder(Task.load(arguments.task), arguments.weights)
    out = arguments.out or folder
    parity = export_fusion(load_fusion(folder), out)
    for name, difference in parity.items():
        print(f"{name:<32} largest difference {difference:.1e}")
    if (out / "card.json").is_file():
        add_to_card(out, {PARITY_SECTION: {k: f"{v:.1e}" for k, v in parity.items()}})
    write_digests(out)


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


def _evaluate_fusion(task: Task, bundle: Path, arguments: argparse.Namespace) -> None:
    from fusion.model.checkpoint import load_fusion
    from fusion.training.disturbance import DISTURBANCES, disturbed_cache
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.fusion_metrics import evaluate_fusion, table
    from fusion.training.scene_features import cache_features

    root = held_out_scenes(task, arguments)
    out = Path(arguments.out) / f"features-{task.name}-{arguments.split}"
    cache = cache_features(root, out, task, bundle, split=arguments.split, threads=arguments.threads)
    model = load_fusion(bundle)
    results = evaluate_fusion(model, SceneSampler(cache, model.spec))
    print(table(results))
    if not arguments.disturbed:
        return
    results = {"calm": results["all"]}
    for how in DISTURBANCES:
        folder = Path(arguments.out) / f"features-{task.name}-{arguments.split}-{how.name}"
        late = disturbed_cache(how, root, cache, folder, task, bundle, threads=arguments.threads)
        sampler = SceneSampler(late, model.spec)
        results[how.name] = evaluate_fusion(model, sampler, patterns=["all"], ages=how.ages)["all"]
    print("\nall sensors, one of them late (ms) or the camera turned (degrees)")
    print(table(results))
