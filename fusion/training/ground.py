"""Trains a fusion model over the ground on recordings of road traffic: `fusion train fusion --task kitti|nuscenes`.

AdamW with warm-up and a cosine, gradient clipping, bfloat16 off the CPU, a checkpoint an epoch to go on from. The
frames are read, synchronized, prepared and shaken by the same code for every task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusion.encoders.backbone import BackboneEncoder
from fusion.errors import InputError
from fusion.model.build import FusionModel, build_fusion, map_size, peak_reader
from fusion.model.checkpoint import TrainingState, load_state, save_fusion, save_state
from fusion.model.sizes import bev_spec
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.training.centre_targets import centre_losses, centre_targets
from fusion.training.driving_augment import AugmentRecipe, augmented
from fusion.training.driving_frames import DrivingFrames, Frame
from fusion.training.driving_spec import FrameSpec
from fusion.training.optimisation import adamw, optimizer_tensors, restore_optimizer, set_rate, take_step

WEIGHTS = {"heatmap": 1.0, "box": 1.0, "velocity": 0.2}


@dataclass(frozen=True, slots=True)
class GroundRecipe:
    """What a run is made of; `device` as torch names it. No `augment`: frames are taken as they are."""

    epochs: int = 20
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 20
    clip: float = 5.0
    seed: int = 7
    threads: int = 2
    device: str = "cpu"
    augment: AugmentRecipe | None = None


def driving_model_spec(task: Task, frames: FrameSpec, size: str) -> FusionSpec:
    """The model for frames of `frames`."""
    spec = bev_spec(task, size, image_height=frames.height, sweeps=True)
    return replace(spec, image_width=frames.width, points=frames.points)


def train_ground(
    frames: DrivingFrames,
    out: Path,
    recipe: GroundRecipe,
    *,
    spec: FusionSpec,
    resume: bool = False,
    network_weights: Path | None = None,
) -> tuple[FusionModel, list[dict[str, float]]]:
    """Train a model of `spec`; returns it with the mean losses an epoch.

    Keeps `out/last` (the state after the last whole epoch, from which `resume` goes on) and `out/model`.
    `network_weights` is a file that the camera's backbone begins with. Raises `InputError` for frames without truth.
    """
    told = [i for i, planned in enumerate(frames.plan.frames) if planned.truth is not None]
    if not told:
        raise InputError(f"{frames.path}: no frame has truth; there is nothing to learn from")
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = build_fusion(spec)
    if network_weights is not None:
        cast("BackboneEncoder", model.encoders["camera"]).begin_with(network_weights)
    optimizer = adamw(model.to(recipe.device), recipe.learning_rate, recipe.weight_decay)
    history: list[dict[str, float]] = []
    if resume and (state := load_state(out / "last")) is not None:
        model.load_state_dict(state.part("model"))
        restore_optimizer(optimizer, state.part("optimizer"))
        history = list(state.facts["history"])
    while len(history) < recipe.epochs:
        history.append(_epoch(model, optimizer, frames, told, recipe, len(history)))
        _keep(out / "last", model, optimizer, history)
    model.cpu().eval()
    save_fusion(out / "model", model)
    return model, history


def _epoch(
    model: FusionModel,
    optimizer: torch.optim.Optimizer,
    frames: DrivingFrames,
    told: Sequence[int],
    recipe: GroundRecipe,
    epoch: int,
) -> dict[str, float]:
    """One pass over the frames `told` of; the mean losses."""
    spec, steps = model.spec, -(-len(told) // recipe.batch)
    torch.manual_seed(recipe.seed + epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(told)
    model.train()
    means: dict[str, float] = {}
    shown = tqdm(_batches(frames, order, recipe, epoch), total=steps, desc=f"epoch {epoch + 1}/{recipe.epochs}")
    for step, batch in enumerate(shown):
        set_rate(optimizer, recipe.learning_rate, recipe.warmup_steps, epoch * steps + step, recipe.epochs * steps)
        device = torch.device(recipe.device).type
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            maps, _, _ = model(batch)
        parts = centre_losses(maps, centre_targets(batch, spec.grid, map_size(spec), len(spec.classes)))
        take_step(optimizer, model, sum((WEIGHTS[k] * v for k, v in parts.items()), torch.zeros(())), recipe.clip)
        for name, value in parts.items():
            means[name] = means.get(name, 0.0) + float(value.detach()) / steps
        shown.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in parts.items()})
    return means


def _keep(
    folder: Path, model: FusionModel, optimizer: torch.optim.Optimizer, history: Sequence[dict[str, float]]
) -> None:
    tensors = {f"model.{name}": value.detach().cpu().clone() for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
    save_state(folder, TrainingState(len(history), 0, tensors, {"history": list(history)}))


def collate_frames(frames: Sequence[Frame], device: str = "cpu") -> dict[str, Tensor]:
    """Frames stacked on a new first axis."""
    return {name: torch.from_numpy(np.stack([f[name] for f in frames])).to(device) for name in frames[0]}


@torch.inference_mode()
def recall_at(model: FusionModel, frames: DrivingFrames, distance_m: float = 1.0) -> float:
    """Share of truth boxes on the ground with a peak of their class within `distance_m` of their centre."""
    spec, reader = model.spec, peak_reader(model.spec)
    found = total = 0
    for frame in frames:
        batch = collate_frames([frame])
        answer = reader(model(batch)[0])
        targets = centre_targets(batch, spec.grid, map_size(spec), len(spec.classes))
        sure = answer.scores[0] > 0.3
        for index in targets.there[0].nonzero()[:, 0].tolist():
            same = sure & (answer.labels[0] == batch["truth_label"][0, index])
            gap = (answer.box3d[0, same, :2] - batch["truth_box3d"][0, index, :2]).norm(dim=1)
            found += int(bool((gap < distance_m).any()))
            total += 1
    return found / max(1, total)


def _batches(
    frames: DrivingFrames, order: Sequence[int] | np.ndarray, recipe: GroundRecipe, epoch: int
) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(order), recipe.batch):
        rng = np.random.default_rng([recipe.seed, epoch, start])
        chosen = [int(i) for i in order[start : start + recipe.batch]]
        yield collate_frames(
            [augmented(frames, i, rng, recipe.augment) if recipe.augment else frames.frame(i) for i in chosen],
            recipe.device,
        )
