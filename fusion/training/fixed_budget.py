"""Trains any fusion model for a fixed number of steps on cached scenes and frozen ears: how fusers are compared.

The same batches, optimizer, schedule and average for all; what differs is the model and which sensors it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusion.model.build import FusionModel
from fusion.training.fuse import LOSS_WEIGHTS, condition_weights
from fusion.training.fusion_data import SceneSampler, batches
from fusion.training.fusion_targets import assign, fusion_losses
from fusion.training.learner import Learner
from fusion.training.optimisation import FP32, autocast, set_rate


@dataclass(frozen=True, slots=True)
class Budget:
    """What every competitor gets. `precision` is one of `PRECISIONS`; `ema` is the average's decay a step."""

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    ema: float = 0.995
    clip: float = 1.0
    seed: int = 0
    precision: str = FP32


def train_on_budget(
    model: FusionModel, sampler: SceneSampler, budget: Budget, *, scenes: Sequence[int] | None = None, name: str = ""
) -> FusionModel:
    """Train `model`, which listens through `fusion.training.sounds.HeardEars`, on `scenes` of the sampler's cache (all
    by default); returns its weights' average in evaluation mode. Seeds are `budget.seed`'s; same seed, same batches.
    """
    chosen = np.arange(len(sampler.cache)) if scenes is None else np.asarray(scenes)
    torch.manual_seed(budget.seed)
    model.to(sampler.device).train()
    learner = Learner(
        model,
        learning_rate=budget.learning_rate,
        weight_decay=budget.weight_decay,
        ema=budget.ema,
        clip=budget.clip,
    )
    weights = condition_weights(sampler.cache, len(model.spec.conditions)).to(sampler.device)
    progress = tqdm(endless(sampler, chosen, budget), total=budget.steps, desc=name or "steps", unit="step")
    for step, batch in enumerate(progress):
        set_rate(learner.optimizer, budget.learning_rate, budget.warmup_steps, step, budget.steps)
        with autocast(sampler.device.type, budget.precision):
            loss = scene_loss(model, batch, weights)
        learner.learn(loss)
        if step % 50 == 0:
            progress.set_postfix(loss=f"{float(loss.detach()):.3f}")
    return learner.average.model


def scene_loss(model: FusionModel, batch: dict[str, Tensor], condition_weight: Tensor) -> Tensor:
    """The weighted loss of the fuser's heads, a scalar."""
    outputs, _, _ = model(batch)
    outputs = type(outputs)(*(x.float() if x.is_floating_point() else x for x in outputs))
    targets = assign(batch, model.anchors, len(model.spec.classes))
    parts = fusion_losses(outputs, targets, batch, condition_weight)
    return torch.stack([LOSS_WEIGHTS[name] * value for name, value in parts.items()]).sum()


def endless(sampler: SceneSampler, chosen: np.typing.NDArray[np.intp], budget: Budget) -> Iterator[dict[str, Tensor]]:
    """`budget.steps` shaken batches, pass after pass over the `chosen` scenes in a new order each; a pass of fewer
    scenes than a batch repeats some.
    """
    made = passes = 0
    while made < budget.steps:
        rng = np.random.default_rng([budget.seed, 5, passes])
        order = rng.permutation(np.resize(rng.permutation(chosen), max(len(chosen), budget.batch)))
        for batch in batches(sampler, order, budget.batch, [budget.seed, passes]):
            yield batch
            made += 1
            if made == budget.steps:
                return
        passes += 1
