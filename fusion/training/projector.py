"""Aligns our evidence with a frozen pretrained vision-language model: only the projector learns.

The model's own answers are what is trained on: the cross-entropy of every slot's labels, read from its label tree. That
is the first stage of LLaVA (Liu et al., 2023), with verdicts for captions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fusion.errors import InputError, ModelError
from fusion.review.hub.network import HubNetwork
from fusion.review.item_cache import ItemCache
from fusion.review.projector import EvidenceProjector
from fusion.training.reviewer_batches import UNDISTURBED, Disturbance, batches, disturbed_batch

_STATISTICS_ROWS = 2048


@dataclass(frozen=True, slots=True)
class ProjectorRecipe:
    """What a run is made of; an epoch draws at most `items_per_epoch` items."""

    epochs: int = 4
    items_per_epoch: int = 12_000
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    seed: int = 7
    threads: int = 2
    hidden: int = 256
    disturbance: Disturbance = field(default_factory=lambda: Disturbance(with_pixels=0.2))


@dataclass(frozen=True, slots=True)
class ProjectorRun:
    """Figures on validation items after every epoch, and the best of them."""

    epochs: list[dict[str, float]]
    best: dict[str, float]


def train_projector(
    cache: ItemCache,
    validation: ItemCache,
    recipe: ProjectorRecipe,
    made: Callable[[EvidenceProjector], HubNetwork],
    projector: EvidenceProjector,
    *,
    quiet: bool = False,
) -> ProjectorRun:
    """Train `projector` in place, inside the network that `made` makes around it; the best epoch's weights stay.

    The same cache, recipe, model and thread count give the same weights. Raises `InputError` for a cache of too few
    items.
    """
    if len(cache) < recipe.batch:
        raise InputError(f"{len(cache)} items are less than a batch of {recipe.batch}; give more scenes")
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    rows = rng.permutation(len(cache))[:_STATISTICS_ROWS]
    projector.fit_statistics(disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=False)[0])
    network = made(projector)
    network.requires_grad_(requires_grad=False)
    projector.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(
        projector.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    drawn = min(len(cache), recipe.items_per_epoch)
    steps = recipe.epochs * math.ceil(drawn / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps, recipe.warmup))
    run, best = ProjectorRun([], {}), copy.deepcopy(projector.state_dict())
    prefix = [(keys.detach(), values.detach()) for keys, values in network.prefix_cache()]
    with tqdm(total=steps, unit="step", disable=quiet) as progress:
        for epoch in range(recipe.epochs):
            chosen = np.random.default_rng([recipe.seed, epoch]).permutation(len(cache))[:drawn]
            for parts in batches(cache, chosen, recipe.disturbance, recipe.batch, rng):
                size = sum(batch.size for batch, _ in parts)
                told = [(network(batch.to(network.device), prefix), truth.to(network.device)) for batch, truth in parts]
                loss = torch.stack([_cross_entropy(scores, truth) for scores, truth in told]).sum() / size
                if not bool(torch.isfinite(loss)):
                    raise ModelError(f"the loss is no number after {schedule.last_epoch} steps; learn in float32")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                progress.update()
            figures = {"epoch": epoch + 1.0, **measure(network, validation, recipe.batch)}
            run.epochs.append(figures)
            if not run.best or figures["nll"] < run.best["nll"]:
                run.best.update(figures)
                best = copy.deepcopy(projector.state_dict())
            progress.set_postfix(right=f"{figures['verdict']:.3f}", nll=f"{figures['nll']:.3f}")
    projector.load_state_dict(best)
    return run


@torch.inference_mode()
def measure(network: HubNetwork, cache: ItemCache, size: int) -> dict[str, float]:
    """Shares of right answers a slot and of wholly right verdicts (`verdict`), and mean `nll`, without pixels."""
    rng, prefix, right, nll = np.random.default_rng(0), network.prefix_cache(), [], 0.0
    for start in range(0, len(cache), size):
        rows = np.arange(start, min(start + size, len(cache)))
        batch, truth = disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=False)
        scores = [each.cpu() for each in network(batch.to(network.device), prefix)]
        nll += float(_cross_entropy(scores, truth))
        right.append(torch.stack([each.argmax(1) for each in scores], 1) == truth)
    table = torch.cat(right)
    figures = {slot.name: float(table[:, i].float().mean()) for i, slot in enumerate(cache.task.slots)}
    return figures | {"verdict": float(table.all(1).float().mean()), "nll": nll / len(cache)}


def _cross_entropy(scores: list[Tensor], truth: Tensor) -> Tensor:
    """Summed over rows and slots."""
    losses = [functional.cross_entropy(each.float(), truth[:, i], reduction="sum") for i, each in enumerate(scores)]
    return torch.stack(losses).sum()


def _rate(done: float, warmup: float) -> float:
    """The learning rate's share after `done` of all steps: a linear rise, then half a cosine."""
    return min((done + 1e-3) / max(warmup, 1e-3), 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
