"""What `fusion train fusion`, `pretrain`, `export` and `evaluate fusion` do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.errors import ConfigError
from fusion.task import Task
from fusion.training.bundle import add_to_card, bundle_folder, drafted
from fusion.training.ranks import refuse_several
from fusion.training.scene_sets import detector_scenes, fusion_scenes, held_out_scenes

if TYPE_CHECKING:
    from fusion.preparation.fusion_spec import FusionSpec
    from fusion.training.driving.ground import GroundRecipe
    from fusion.training.fuse import FusionRecipe
    from fusion.training.scene_features import FeatureCache
    from fusion.training.utterances import UtteranceBank

FUSER = "fuser.onnx"
PARITY_SECTION = "Fusion model, largest difference between graph and model"
"""On the card."""


def make_fusion(task: Task, arguments: argparse.Namespace) -> None:
    """`fusion train fusion`: from scenes or a recording to a model, through the gate into the bundle."""
    from fusion.training.fuse import train_fusion
    from fusion.training.fusion_bundle import export_fusion
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.fusion_gate import HELD_SECTION, refuse_worse
    from fusion.training.scene_features import cache_features

    if _over_ground(task, arguments):
        _ground(task, arguments)
        return
    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model; a driving task learns one from --data RECORDING")
    refuse_several("fusion model", task)
    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    if arguments.only and not arguments.start:
        raise ConfigError("--only trains a part of a model that there is; name its bundle with --start")
    learn, bank, spec = _material(task, arguments)
    spec = _spec_of(arguments.start) if arguments.only else spec
    validate = cache_features(
        detector_scenes(task, arguments), out / "features-val", task, folder, split="val", threads=arguments.threads
    )
    recipe = _fusion_recipe(arguments)
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
    best = refuse_worse(report["validation"], folder, SceneSampler(validate, spec))
    with drafted(folder) as draft:
        parity = export_fusion(model, draft)
        add_to_card(
            draft,
            {
                "Fusion model, recipe": asdict(recipe)
                | {"scenes": len(learn), "command": f"fusion train fusion --task {task.name} --size {spec.name}"}
                | ({"start": f"the bundle {arguments.start.name}"} if arguments.start else {}),
                "Fusion model, validation, all sensors": report["validation"]["all"],
                HELD_SECTION: best,
                PARITY_SECTION: {k: f"{v:.1e}" for k, v in parity.items()},
            },
        )
        _learn_references(draft, draft, learn, validate)


def make_references(task: Task, arguments: argparse.Namespace) -> None:
    """`fusion train novelty`: where the items of the training scenes lie, into the bundle."""
    from fusion.training.scene_features import cache_features

    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model, whose tokens could tell what is novel")
    folder, out = bundle_folder(task, arguments.weights), Path(arguments.out) / task.name
    caches = [
        cache_features(scenes, out / f"features-{split}", task, folder, split=split, threads=arguments.threads)
        for scenes, split in ((fusion_scenes(task, arguments), "train"), (detector_scenes(task, arguments), "val"))
    ]
    with drafted(folder) as draft:
        _learn_references(folder, draft, *caches)


def _learn_references(folder: Path, draft: Path, learn: FeatureCache, validate: FeatureCache) -> None:
    """Of the fusion model in `folder`, into `draft`."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.novelty import SECTION, learn_references

    model = load_fusion(folder)
    references, facts = learn_references(model, SceneSampler(learn, model.spec), SceneSampler(validate, model.spec))
    references.save(draft, folder / FUSER)
    add_to_card(draft, {SECTION: facts | {"command": f"fusion train novelty --task {model.spec.task}"}})


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


def _spec_of(bundle: Path) -> FusionSpec:
    """The description of the model in `bundle`: what is frozen must read its inputs as it always did."""
    from fusion.preparation.fusion_spec import FusionSpec

    return FusionSpec.load(bundle)


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


def _fusion_recipe(arguments: argparse.Namespace) -> FusionRecipe:
    from fusion.training.fuse import FusionRecipe
    from fusion.training.optimisation import BF16

    only = tuple(arguments.only or ())
    recipe = FusionRecipe(threads=arguments.threads, tensorboard=bool(arguments.tensorboard), only=only)
    recipe = recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)
    return recipe if arguments.precision is None else replace(recipe, half=arguments.precision == BF16)


def _ground(task: Task, arguments: argparse.Namespace) -> None:
    from fusion.training.driving.frames import DrivingFrames
    from fusion.training.driving.ground import driving_model_spec, train_ground
    from fusion.training.driving.spec import frame_spec
    from fusion.training.ranks import joined

    shapes, out = frame_spec(task), Path(arguments.out) / task.name / f"fusion-{arguments.size}"
    spec = driving_model_spec(task, shapes, arguments.size)
    with joined(arguments.device) as ranks:
        frames = DrivingFrames(arguments.data, task, shapes, quiet=not ranks.first)
        other = arguments.held_out
        held_out = None if other is None else DrivingFrames(other, task, shapes, quiet=not ranks.first)
        _, history = train_ground(
            frames,
            out,
            _ground_recipe(arguments),
            spec=spec,
            held_out=held_out,
            ranks=ranks,
            resume=arguments.resume,
            network_weights=arguments.network_weights,
        )
    if ranks.first:
        last = ", ".join(f"{name} {value:.3f}" for name, value in history[-1].items() if name != "recall")
        print(f"wrote {out / 'model'} after {len(history)} epochs; last losses: {last}")
        whose = "the objects it learnt from (no held-out figure)" if held_out is None else "held-out objects"
        print(f"it finds {history[-1]['recall']:.2f} of {whose} within 1 m")


def _ground_recipe(arguments: argparse.Namespace) -> GroundRecipe:
    from fusion.training.driving.augment import training_recipe
    from fusion.training.driving.ground import GroundRecipe

    recipe = GroundRecipe(
        threads=arguments.threads,
        device=arguments.device,
        precision=arguments.precision,
        augment=None if arguments.as_is else training_recipe(),
        tensorboard=arguments.tensorboard,
    )
    return recipe if arguments.epochs is None else replace(recipe, epochs=arguments.epochs)


def _over_ground(task: Task, arguments: argparse.Namespace) -> bool:
    """Whether the task's fusion model is one over the ground, learnt from the recording that is given."""
    return arguments.data is not None and task.area is not None and not task.conditions


def export(arguments: argparse.Namespace) -> None:
    """`fusion export`: the fusion model of a bundle as graphs, proven equal to it, or as a variant in fewer bits."""
    from fusion.model.checkpoint import load_fusion
    from fusion.perception.novelty import ReferenceTokens
    from fusion.training.fusion_bundle import export_fusion

    if arguments.engine or arguments.precision == "fp16":
        raise ConfigError("only a detector is built for TensorRT: fusion export detector --engine tensorrt")
    folder = bundle_folder(Task.load(arguments.task), arguments.weights)
    if arguments.precision != "f32":
        _export_variant(folder, arguments)
        return
    references = ReferenceTokens.find(folder, folder / FUSER)
    with drafted(arguments.out or folder) as draft:
        parity = export_fusion(load_fusion(folder), draft)
        if references:
            references.save(draft, draft / FUSER)  # the graph is proven equal to the model that they were made with
        if (draft / "card.json").is_file():
            add_to_card(draft, {PARITY_SECTION: {k: f"{v:.1e}" for k, v in parity.items()}})
    for name, difference in parity.items():
        print(f"{name:<32} largest difference {difference:.1e}")


def _export_variant(folder: Path, arguments: argparse.Namespace) -> None:
    from fusion.training.precision import Wanted, report, write_variant

    if arguments.out is None:
        raise ConfigError(f"--precision {arguments.precision} needs --out: a folder for the variant, beside no bundle")
    data = arguments.data or Path("runs") / arguments.task
    wanted = Wanted(arguments.precision, data, max_loss=arguments.max_loss, threads=arguments.threads)
    print(report(write_variant(folder, arguments.out, wanted)))


def measure_fusion(task: Task, bundle: Path, arguments: argparse.Namespace) -> None:
    """`fusion evaluate fusion`: by sensors that are there, and where asked for with late and turned ones."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.disturbance import DISTURBANCES, disturbed_cache
    from fusion.training.fusion_data import SceneSampler
    from fusion.training.fusion_metrics import evaluate_fusion, table
    from fusion.training.scene_features import cache_features

    if not task.conditions:
        raise ConfigError(f"task {task.name} has no fused model that is measured on scenes; yard has")
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
