"""How anything learns inside a network that answers slots: the projector of a pretrained model, adapters, all of it.

The network's own answers are what is trained on: the cross-entropy of every slot's options. What learns is told by its
parameters; the rest stays as it is. The epoch that is best on validation items is what is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fusion.errors import InputError, ModelError
from fusion.review.batch import EvidenceBatch
from fusion.review.item_cache import ItemCache
from fusion.training.optimisation import optimizer_tensors, restore_optimizer
from fusion.training.resuming import refuse_other
from fusion.training.reviewer_batches import UNDISTURBED, Disturbance, batches, disturbed_batch

CHECKPOINT = "checkpoint.safetensors"


class SlotNetwork(Protocol):
    """`fusion.review.model.ReviewerNetwork` and `fusion.review.hub.network.HubNetwork`."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def prefix_cache(self) -> Any:
        """What all rows share, computed once."""

    def __call__(self, batch: EvidenceBatch, prefix: Any) -> list[Tensor]:
        """Scores (B, options) a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecipe:
    """What a run is made of; an epoch draws at most `items_per_epoch` items."""

    epochs: int = 4
    items_per_epoch: int = 12_000
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    seed: int = 7
    threads: int = 2
    disturbance: Disturbance = field(default_factory=lambda: Disturbance(with_pixels=0.2))


@dataclass(slots=True)
class SlotRun:
    """Figures on validation items after every epoch, and the best of them; `best` is empty before the first."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run's state is kept after every epoch; `begun` tells what it was begun with (`fusion.training.resuming`).

    With `resume` a run goes on from it.
    """

    folder: Path
    begun: Mapping[str, str]
    resume: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / CHECKPOINT


def learn_slots(
    network: SlotNetwork,
    learnt: Mapping[str, nn.Parameter],
    cache: ItemCache,
    validation: ItemCache,
    recipe: SlotRecipe,
    *,
    prefix: Any = None,
    checkpoints: Checkpoints | None = None,
    quiet: bool = False,
) -> SlotRun:
    """Train the parameters `learnt` in place; the best epoch's values stay.

    `prefix` is what rows share where nothing of it learns; without one it is computed anew at every step. The same
    cache, recipe, network and thread count give the same values, whether or not the run was resumed in between. Raises
    `InputError` for a cache of too few items or a damaged checkpoint, `ConfigError` for a run that was begun otherwise.
    """
    if len(cache) < recipe.batch:
        raise InputError(f"{len(cache)} items are less than a batch of {recipe.batch}; give more scenes")
    torch.set_num_threads(recipe.threads)
    if frozen := [name for name, parameter in learnt.items() if not parameter.requires_grad]:
        raise ValueError(f"{min(frozen)} is to learn and is frozen")
    state = _Run(network, dict(learnt), cache, recipe, prefix)
    first = state.restore(checkpoints) if checkpoints is not None and checkpoints.resume else 0
    with tqdm(total=state.steps, initial=first * state.steps // recipe.epochs, unit="step", disable=quiet) as progress:
        for epoch in range(first, recipe.epochs):
            loss = state.epoch(epoch, progress)
            figures = {"epoch": epoch + 1.0, "loss": loss, **measure_slots(network, validation, recipe.batch)}
            state.keep(figures)
            if checkpoints is not None:
                state.save(checkpoints, epoch + 1)
            progress.set_postfix(right=f"{figures['verdict']:.3f}", nll=f"{figures['nll']:.3f}")
    state.take_best()
    return state.run


@torch.inference_mode()
def measure_slots(network: SlotNetwork, cache: ItemCache, size: int) -> dict[str, float]:
    """Shares of right answers a slot and of wholly right verdicts (`verdict`), and mean `nll`, without pixels."""
    table, nll = told_right(network, cache, size)
    figures = {slot.name: float(table[:, i].float().mean()) for i, slot in enumerate(cache.task.slots)}
    return figures | {"verdict": float(table.all(1).float().mean()), "nll": nll}


@torch.inference_mode()
def told_right(network: SlotNetwork, cache: ItemCache, size: int) -> tuple[Tensor, float]:
    """Whether each slot of each item is answered rightly, (N, slots) bool, and the mean negative log-likelihood."""
    rng, prefix, right, nll = np.random.default_rng(0), network.prefix_cache(), [], 0.0
    for start in range(0, len(cache), size):
        rows = np.arange(start, min(start + size, len(cache)))
        batch, truth = disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=False)
        scores = [each.cpu() for each in network(batch.to(network.device), prefix)]
        nll += float(_cross_entropy(scores, truth))
        right.append(torch.stack([each.argmax(1) for each in scores], 1) == truth)
    return torch.cat(right), nll / len(cache)


class _Run:
    """The state of a run between epochs."""

    def __init__(
        self, network: SlotNetwork, learnt: dict[str, nn.Parameter], cache: ItemCache, recipe: SlotRecipe, prefix: Any
    ) -> None:
        self.network, self.learnt, self.cache, self.recipe, self.prefix = network, learnt, cache, recipe, prefix
        self.drawn = min(len(cache), recipe.items_per_epoch)
        self.steps = recipe.epochs * math.ceil(self.drawn / recipe.batch)
        decay = recipe.weight_decay
        self.optimizer = torch.optim.AdamW(
            list(learnt.values()), lr=recipe.learning_rate, weight_decay=decay, betas=(0.9, 0.98)
        )
        self.step = 0
        self.run = SlotRun()
        self.best = self._values()

    def epoch(self, epoch: int, progress: Any) -> float:
        """One pass over a fresh draw of items; the mean loss a row."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, epoch])
        chosen, total = rng.permutation(len(self.cache))[: self.drawn], 0.0
        for parts in batches(self.cache, chosen, recipe.disturbance, recipe.batch, rng):
            size = sum(batch.size for batch, _ in parts)
            prefix = self.network.prefix_cache() if self.prefix is None else self.prefix
            device = self.network.device
            told = [(self.network(batch.to(device), prefix), truth.to(device)) for batch, truth in parts]
            loss = torch.stack([_cross_entropy(scores, truth) for scores, truth in told]).sum() / size
            if not bool(torch.isfinite(loss)):
                raise ModelError(f"the loss is no number after {self.step} steps; learn in float32, or more slowly")
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _rate(self.step / self.steps, recipe.warmup)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(list(self.learnt.values()), 1.0)
            self.optimizer.step()
            self.step += 1
            total += float(loss.detach()) * size
            progress.update()
        return total / self.drawn

    def keep(self, figures: dict[str, float]) -> None:
        """Take down an epoch's figures, and its values where it is the best so far."""
        self.run.epochs.append(figures)
        if not self.run.best or figures["nll"] < self.run.best["nll"]:
            self.run.best = figures
            self.best = self._values()

    def take_best(self) -> None:
        """Give the network the best epoch's values."""
        self._set(self.best)

    def save(self, checkpoints: Checkpoints, done: int) -> None:
        """Everything that is needed to go on, written whole or not at all."""
        from safetensors.torch import save_file

        tensors = {f"now.{name}": value for name, value in self._values().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        told = {"done": done, "step": self.step, "of": dict(checkpoints.begun), "run": [self.run.epochs, self.run.best]}
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        draft = checkpoints.path.with_suffix(".draft")
        save_file({name: value.contiguous() for name, value in tensors.items()}, draft, {"run": json.dumps(told)})
        draft.replace(checkpoints.path)

    def restore(self, checkpoints: Checkpoints) -> int:
        """Take up a saved run; returns how many epochs are done, 0 when there is nothing saved."""
        from safetensors import SafetensorError, safe_open

        path = checkpoints.path
        if not path.is_file():
            return 0
        try:
            with safe_open(path, "pt") as file:
                told = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({str(error)[:100]}); begin anew without --resume") from None
        refuse_other(path, told.get("of"), checkpoints.begun)
        self._set(_below(tensors, "now."))
        self.best = _below(tensors, "best.")
        restore_optimizer(self.optimizer, _below(tensors, "optimizer."))
        self.step = int(told["step"])
        self.run = SlotRun(*told["run"])
        return int(told["done"])

    def _values(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.learnt.items()}

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.learnt.items():
            parameter.copy_(values[name])


def _below(tensors: Mapping[str, Tensor], beginning: str) -> dict[str, Tensor]:
    return {name.removeprefix(beginning): value for name, value in tensors.items() if name.startswith(beginning)}


def _cross_entropy(scores: list[Tensor], truth: Tensor) -> Tensor:
    """Summed over rows and slots."""
    losses = [functional.cross_entropy(each.float(), truth[:, i], reduction="sum") for i, each in enumerate(scores)]
    return torch.stack(losses).sum()


def _rate(done: float, warmup: float) -> float:
    """The learning rate's share after `done` of all steps: a linear rise, then half a cosine."""
    return min((done + 1e-3) / max(warmup, 1e-3), 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
