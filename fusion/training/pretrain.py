"""Runs a self-supervised objective over cached scenes: what `fusion pretrain` does."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from fusion.errors import ConfigError
from fusion.model.build import FusionModel
from fusion.training.fixed_budget import Budget, endless
from fusion.training.fusion_data import SceneSampler
from fusion.training.objectives import OBJECTIVES, Contrastive, MaskedModelling
from fusion.training.optimisation import adamw, autocast, set_rate, take_step


def pretrain(
    model: FusionModel, sampler: SceneSampler, budget: Budget, objective: str, *, name: str = ""
) -> list[float]:
    """Teach `model`, in place, the `objective` on all scenes of `sampler`, whose labels are not read; returns the loss
    a step. The sampler must give camera and LiDAR always (`ModalityDropout(0, ...)`). Raises `ConfigError` for an
    objective it does not know.
    """
    kinds = {"masked": MaskedModelling, "contrastive": Contrastive}
    if objective not in kinds:
        raise ConfigError(f"no objective named {objective!r}; known: {', '.join(OBJECTIVES)}")
    torch.manual_seed(budget.seed)
    task = kinds[objective](model).to(sampler.device).train()
    optimizer = adamw(task, budget.learning_rate, budget.weight_decay)
    generator = torch.Generator(sampler.device).manual_seed(budget.seed)
    source = endless(sampler, np.arange(len(sampler.cache)), budget)
    progress = tqdm(source, total=budget.steps, desc=name or f"pretrain {objective}", unit="step")
    losses = []
    for step, batch in enumerate(progress):
        set_rate(optimizer, budget.learning_rate, budget.warmup_steps, step, budget.steps)
        with autocast(sampler.device.type, budget.precision):
            loss = task(batch, generator)
        take_step(optimizer, task, loss, budget.clip)
        losses.append(loss.detach())
        if step % 50 == 0:
            progress.set_postfix(loss=f"{float(losses[-1]):.3f}")
    model.eval()
    return torch.stack(losses).tolist()
