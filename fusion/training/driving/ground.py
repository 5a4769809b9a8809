"""Trains a fusion model over the ground on recordings of road traffic: `fusion train fusion --task kitti|nuscenes`.

AdamW with warm-up and a cosine, gradient clipping, a moving average of the weights, bfloat16 where a GPU has it, a
checkpoint an epoch to go on from, curves for TensorBoard, any number of processes. The frames are read, synchronized,
prepared and shaken by the same code for every task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fusion.encoders.backbone import BackboneEncoder
from fusion.errors import ConfigError, InputError
from fusion.geometry import Rig
from fusion.model.build import FusionModel, build_fusion, map_size, peak_reader
from fusion.model.checkpoint import load_state, save_fusion, save_state
from fusion.model.sizes import bev_spec
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.training.driving.augment import AugmentRecipe, augmented
from fusion.training.driving.centre_targets import CentreTargets, centre_losses, centre_targets
from fusion.training.driving.frames import DrivingFrames, Frame
from fusion.training.driving.spec import FrameSpec
from fusion.training.event_log import EventLog, event_log
from fusion.training.learner import Learner
from fusion.training.optimisation import PRECISIONS, autocast, best_precision, set_rate
from fusion.training.ranks import Ranks, SharedNorms
from fusion.training.resuming import decisive, file_sha256, refuse_other

WEIGHTS = {"heatmap": 1.0, "box": 1.0, "velocity": 0.2}
_FREE = ("threads", "device", "epochs", "tensorboard")
"""What of a recipe may be another when a run goes on."""


@dataclass(frozen=True, slots=True)
class GroundRecipe:
    """What a run is made of.

    `batch` frames are a step's in each process. `ema` is the average's decay a step. `device` is as torch names it;
    with `cuda`, each process takes a GPU of its own. `precision` is of `PRECISIONS`, None for the best of the device.
    No `augment`: frames are taken as they are. `recall_frames` frames are looked at after each epoch, 0 for none.
    `tensorboard` None: if it is installed. Raises `ConfigError` for another precision.
    """

    epochs: int = 20
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 20
    ema: float = 0.999
    clip: float = 5.0
    seed: int = 7
    threads: int = 2
    device: str = "cpu"
    precision: str | None = None
    augment: AugmentRecipe | None = None
    recall_frames: int = 64
    tensorboard: bool | None = None

    def __post_init__(self) -> None:
        if self.precision not in {None, *PRECISIONS}:
            raise ConfigError(f"precision {self.precision!r}; there are {', '.join(PRECISIONS)}")


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
    held_out: DrivingFrames | None = None,
    ranks: Ranks | None = None,
    resume: bool = False,
    network_weights: Path | None = None,
) -> tuple[FusionModel, list[dict[str, float]]]:
    """Train a model of `spec`; returns the averaged model, on the CPU, with an epoch's mean losses and its `recall`.

    Keeps `out/last` (the state after the last whole epoch, from which `resume` goes on), `out/model` and
    `out/tensorboard`. Recall is the averaged model's on `held_out`, or, without, on frames it learns from.
    `network_weights` is a file that the camera's backbone begins with. Of several `ranks`, all of which must see
    `out/last`, the first alone measures and writes. A run that is resumed may go on for more epochs, elsewhere and in
    another number of processes. Raises `InputError` for frames without truth, `ModelError` for weights or a state that
    do not fit, `ConfigError` for a state of a run that was begun with anything else that is given here.
    """
    told = told_frames(frames)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    model = build_fusion(spec)
    if network_weights is not None:
        cast("BackboneEncoder", model.encoders["camera"]).begin_with(network_weights)
    run = _Run(model, recipe, frames, told, ranks or Ranks())
    begun = {
        "recipe": decisive(recipe, _FREE),
        "model": decisive(spec, ()),
        "frames": frames_sha256(frames),
        "held-out frames": "" if held_out is None else frames_sha256(held_out),
        "network weights": file_sha256(network_weights),
    }
    if resume and (state := load_state(out / "last")) is not None:
        refuse_other(out / "last", state.facts.get("of"), begun)
        run.learner.restore(state, out / "last")
        run.history = list(state.facts["history"])
    run.check_together(out / "last")
    first = run.ranks.first
    with event_log(out, wanted=recipe.tensorboard if first else False, step=run.learner.step) as log:
        while len(run.history) < recipe.epochs:
            run.train_epoch(log)
            if first:
                run.measure(held_out, log)
                save_state(out / "last", run.learner.state(len(run.history), {"history": run.history, "of": begun}))
    averaged = run.learner.average.model.cpu()
    if first:
        save_fusion(out / "model", averaged)
    return averaged, run.history


class _Lesson(nn.Module):
    """A model with its losses. What comes out is what is learnt from, so that weights without a part in it are seen."""

    def __init__(self, model: FusionModel, precision: str) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, batch: Mapping[str, Tensor], targets: CentreTargets, counts: Tensor) -> dict[str, Tensor]:
        """Losses by name of a collated `batch`, means over `counts` (see `centre_losses`)."""
        with autocast(counts.device.type, self.precision):
            maps, _, _ = self.model(batch)
        return centre_losses(maps, targets, counts)


class _Run:
    """One training run in one process: what learns, from which frames, and what it has come to."""

    def __init__(
        self, model: FusionModel, recipe: GroundRecipe, frames: DrivingFrames, told: Sequence[int], ranks: Ranks
    ) -> None:
        self.recipe, self.frames, self.told, self.ranks = recipe, frames, told, ranks
        self.device = ranks.place(recipe.device)
        self.learner = Learner(
            model.to(self.device),
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            ema=recipe.ema,
            clip=recipe.clip,
        )
        self.norms = SharedNorms(model, ranks, self.device)
        self.lesson = ranks.averaging(_Lesson(model, recipe.precision or best_precision(self.device)))
        self.history: list[dict[str, float]] = []

    def check_together(self, folder: Path) -> None:
        """Raises `InputError` if not all processes go on from the same epoch."""
        epochs = self.ranks.every(len(self.history), self.device)
        if len(set(epochs)) > 1:
            raise InputError(f"{folder}: processes go on from epochs {epochs}; all of them must see the same folder")

    def train_epoch(self, log: EventLog) -> None:
        """One pass over the frames; its mean losses are added to the history."""
        recipe, epoch = self.recipe, len(self.history)
        places = range(0, len(self.told), recipe.batch * self.ranks.count)
        torch.manual_seed(recipe.seed + epoch + 1_000_003 * self.ranks.rank)
        self.learner.model.train()
        means: dict[str, float] = {}
        shown = tqdm(
            self._batches(epoch, places),
            total=len(places),
            desc=f"epoch {epoch + 1}/{recipe.epochs}",
            unit="step",
            disable=not self.ranks.first,
        )
        for step, batch in enumerate(shown):
            now, total = epoch * len(places) + step, recipe.epochs * len(places)
            set_rate(self.learner.optimizer, recipe.learning_rate, recipe.warmup_steps, now, total)
            values = self._train_step(batch)
            for name, value in values.items():
                means[name] = means.get(name, 0.0) + value / len(places)
            log.scalars("loss", values, self.learner.step)
            log.scalars("optimizer", {"learning_rate": self.learner.rate}, self.learner.step)
            shown.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        self.history.append(means)

    def _train_step(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """One step of all processes; the losses of their frames together."""
        spec, count = self.learner.model.spec, self.ranks.count
        targets = centre_targets(batch, spec.grid, map_size(spec), len(spec.classes))
        there = torch.stack([batch[f"{name}_available"].any() for name in spec.sensors]).float()
        total = self.ranks.sum(torch.cat([targets.counts, there]))
        self.norms.share(together=all(share in {0, count} for share in total[2:].tolist()))
        parts = self.lesson(batch, targets, total[:2].clamp(min=1) / count)
        self.learner.learn(sum((WEIGHTS[k] * v for k, v in parts.items()), total.new_zeros(())))
        values = self.ranks.sum(torch.stack(list(parts.values()))) / count
        return dict(zip(parts, values.tolist(), strict=True))

    def _batches(self, epoch: int, starts: range) -> Iterator[dict[str, Tensor]]:
        """This process's share of each step; a frame is changed in the same way whoever takes it."""
        recipe = self.recipe
        order = np.random.default_rng([recipe.seed, epoch]).permutation(self.told)
        for start in starts:
            places = self.ranks.share(range(start, min(start + starts.step, len(order))))
            chosen = [self._frame(int(order[place]), [recipe.seed, epoch, place]) for place in places]
            yield collate_frames(chosen, self.device)

    def _frame(self, index: int, seed: Sequence[int]) -> Frame:
        if self.recipe.augment is None:
            return self.frames.frame(index)
        return augmented(self.frames, index, np.random.default_rng(seed), self.recipe.augment)

    def measure(self, held_out: DrivingFrames | None, log: EventLog) -> None:
        """Add to the last epoch how much the average finds of some frames, evenly chosen."""
        frames = self.frames if held_out is None else held_out
        told = told_frames(frames)
        some = min(self.recipe.recall_frames, len(told))
        if some:
            chosen = [told[place * len(told) // some] for place in range(some)]
            recall = recall_at(self.learner.average.model, frames, indices=chosen)
            self.history[-1]["recall"] = recall
            log.scalars("recall", {"learnt" if held_out is None else "held_out": recall}, self.learner.step)


def told_frames(frames: DrivingFrames) -> list[int]:
    """Indices of the frames that have truth. Raises `InputError` when none has."""
    told = [i for i, planned in enumerate(frames.plan.frames) if planned.truth is not None]
    if not told:
        raise InputError(f"{frames.path}: no frame has truth; there is nothing to learn from")
    return told


def frames_sha256(frames: DrivingFrames) -> str:
    """Digest of which moments these are: shapes, calibration, the readings of each by place, time, sensor, and truth.

    What is in pictures and sweeps is not read.
    """
    rig = frames.info.rig or Rig({}, {})
    sensors = {**{name: asdict(camera) for name, camera in rig.cameras.items()}, **rig.ego_from_lidar}
    told = json.dumps(sensors, sort_keys=True, default=lambda values: values.tolist())
    digest = hashlib.sha256(f"{frames.spec} {told}".encode())
    for name, series in sorted(frames.plan.series.items()):
        digest.update(f"{name} {series}".encode())
    for moment in frames.plan.frames:
        digest.update(f"{moment.time_ns} {sorted(moment.entries.items())} {moment.truth}".encode())
    return digest.hexdigest()


def collate_frames(frames: Sequence[Frame], device: str = "cpu") -> dict[str, Tensor]:
    """Frames stacked on a new first axis, on `device`."""
    return {name: torch.from_numpy(np.stack([f[name] for f in frames])).to(device) for name in frames[0]}


@torch.inference_mode()
def recall_at(
    model: FusionModel, frames: DrivingFrames, distance_m: float = 1.0, *, indices: Sequence[int] | None = None
) -> float:
    """Share in 0..1 of truth boxes on the ground with a peak of their class within `distance_m` of their centre.

    `model` is in evaluation mode, on any device. `indices` says which frames count; default: all.
    """
    spec, device = model.spec, str(next(model.parameters()).device)
    reader = peak_reader(spec).to(device)
    found = total = 0
    for number in range(len(frames)) if indices is None else indices:
        batch = collate_frames([frames.frame(number)], device)
        answer = reader(model(batch)[0])
        targets = centre_targets(batch, spec.grid, map_size(spec), len(spec.classes))
        sure = answer.scores[0] > 0.3
        for index in targets.there[0].nonzero()[:, 0].tolist():
            same = sure & (answer.labels[0] == batch["truth_label"][0, index])
            gap = (answer.box3d[0, same, :2] - batch["truth_box3d"][0, index, :2]).norm(dim=1)
            found += int(bool((gap < distance_m).any()))
            total += 1
    return found / max(1, total)
