"""Trains reviewer-mini on a cache of items, from random weights, on a CPU in minutes.

Every slot's answer is a classification at its marker, so the loss is a sum of cross-entropies over the slot's
options; nothing is generated. bfloat16 where it pays, AdamW, a cosine, and a moving average of the weights
that is what gets saved.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fusion.errors import InputError
from fusion.evaluation.reviewer import escalated
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.item_cache import ItemCache
from fusion.review.model import ReviewerNetwork, ReviewerSize
from fusion.training.optimisation import warm_cosine
from fusion.training.resuming import begun_with_items, decisive, load_run, save_run
from fusion.training.reviewer_batches import UNDISTURBED, Disturbance, batches, disturbed_batch, weighted_draw

_STATISTICS_ROWS = 2048
_FREE = ("threads", "epochs")
"""What of a recipe may be another when a run goes on."""


@dataclass(frozen=True, slots=True)
class ReviewerRecipe:
    """What a run is made of.

    An epoch draws at most `items_per_epoch` items, without replacement; those the device would escalate come
    `hard` times as often, since they are what the reviewer is for. `balance` 0 weighs all answers alike, 1 makes
    every option count the same.
    """

    epochs: int = 8
    items_per_epoch: int = 12_000
    hard: float = 3.0
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    average: float = 0.995
    balance: float = 0.25
    smoothing: float = 0.02
    lane_heads: float = 0.3
    seed: int = 7
    threads: int = 2
    size: ReviewerSize = field(default_factory=ReviewerSize)
    disturbance: Disturbance = field(default_factory=Disturbance)


@dataclass(slots=True)
class ReviewerRun:
    """What training left: the best epoch's validation figures, and every epoch's."""

    best: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    parameters: int = 0


class LaneHeads(nn.Module):
    """Linear answers from one lane's mean embedding: a shorter way for the gradient, thrown away afterwards."""

    def __init__(self, width: int, options: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in options)

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """(n, V, width) → (n, options) a slot."""
        mean = embeddings.mean(1)
        return [head(mean) for head in self.heads]


def recipe_for(flips: bool, **changes: Any) -> ReviewerRecipe:
    """The default recipe; `flips` for tasks where left and right mean nothing."""
    return ReviewerRecipe(disturbance=Disturbance(flips=flips), **changes)


def train_reviewer(
    cache: ItemCache,
    out: Path,
    recipe: ReviewerRecipe,
    *,
    validation: ItemCache | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> ReviewerRun:
    """Train on `cache`, write the Hugging Face folder `out/reviewer`, `out/run.json` and `out/checkpoint.pt`.

    Without `validation`, a tenth of the scenes is set aside. The same cache, recipe and thread count give the
    same weights, whether or not the run was resumed in between; resumed, it may go on for more epochs. Raises
    `ConfigError` when a run is resumed that was begun with other items, another trunk or by another recipe, and
    `ModelError` for a damaged checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    train, validation = _split(cache, validation)
    trainer = _Trainer(train, recipe)
    run = ReviewerRun(parameters=sum(p.numel() for p in trainer.network.parameters()))
    begun = {"recipe": decisive(recipe, _FREE), **begun_with_items(train, validation)}
    first = trainer.restore(out / "checkpoint.pt", begun, run) if resume else 0
    steps = trainer.steps
    with tqdm(total=recipe.epochs * steps, initial=first * steps, unit="step", disable=quiet) as progress:
        for epoch in range(first, recipe.epochs):
            loss = trainer.epoch(epoch, progress)
            measured = measure(trainer.averaged, validation, crops_alone=recipe.disturbance.crops_alone)
            figures = {"epoch": epoch + 1.0, "loss": loss, **measured}
            run.epochs.append(figures)
            if not run.best or figures["nll"] < run.best["nll"]:
                run.best = figures
                trainer.best = copy.deepcopy(trainer.averaged.state_dict())
            progress.set_postfix(loss=f"{loss:.3f}", right=f"{figures['verdict']:.3f}", nll=f"{figures['nll']:.3f}")
            trainer.save(out / "checkpoint.pt", begun, epoch + 1, run)
    trainer.averaged.load_state_dict(trainer.best)
    save_reviewer(out / "reviewer", cache.task, trainer.averaged, trainer.tokenizer, [cache.profile])
    (out / "run.json").write_text(json.dumps({"best": run.best, "epochs": run.epochs}, indent=1) + "\n")
    return run


@torch.inference_mode()
def measure(
    network: ReviewerNetwork, cache: ItemCache, size: int = 128, *, crops_alone: bool = False
) -> dict[str, float]:
    """Shares of right answers a slot and of wholly right verdicts (`verdict`, `verdict_pixels`), and mean `nll`.

    With `crops_alone` there are no maps, and `verdict` and `nll` are those with pixels.
    """
    network.eval()
    rng, prefix = np.random.default_rng(0), network.prefix_cache()
    told = replace(UNDISTURBED, without_maps=1.0) if crops_alone else UNDISTURBED
    figures: dict[str, float] = {}
    for pixels, ending in ((True, ""),) if crops_alone else ((False, ""), (True, "_pixels")):
        right, nll = [], 0.0
        for start in range(0, len(cache), size):
            rows = np.arange(start, min(start + size, len(cache)))
            batch, truth = disturbed_batch(cache, rows, told, rng, pixels=pixels)
            logits = network(batch, prefix)
            nll += sum(float(functional.cross_entropy(x, truth[:, i], reduction="sum")) for i, x in enumerate(logits))
            right.append(torch.stack([x.argmax(1) for x in logits], 1) == truth)
        table = torch.cat(right)
        figures |= {f"{s.name}{ending}": float(table[:, i].float().mean()) for i, s in enumerate(cache.task.slots)}
        figures |= {f"verdict{ending}": float(table.all(1).float().mean()), f"nll{ending}": nll / len(cache)}
    return figures


def _split(cache: ItemCache, validation: ItemCache | None) -> tuple[ItemCache, ItemCache]:
    if validation is not None:
        return cache, validation
    _, scene = np.unique(cache.columns["scene"], return_inverse=True)
    held = scene % 10 == 9
    if not held.any():
        raise InputError(f"{scene.max() + 1} scenes are too few to set a tenth aside; give validation items")
    return cache.take(~held), cache.take(held)


class _Trainer:
    """The state of a run between epochs."""

    def __init__(self, cache: ItemCache, recipe: ReviewerRecipe) -> None:
        self.cache, self.recipe = cache, recipe
        torch.manual_seed(recipe.seed)
        self.network, self.tokenizer = build_network(cache.task, cache.layout, recipe.size)
        rng = np.random.default_rng(recipe.seed)
        rows = rng.permutation(len(cache))[:_STATISTICS_ROWS]
        self.network.projector.fit_statistics(disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=False)[0])
        options = [len(slot.options) for slot in cache.task.slots]
        self.lanes = nn.ModuleDict({lane: LaneHeads(recipe.size.hidden, options) for lane in ("maps", "crop")})
        self.averaged = copy.deepcopy(self.network)
        self.best = copy.deepcopy(self.averaged.state_dict())
        self.chance = np.where(escalated(cache), recipe.hard, 1.0)
        self.drawn = min(len(cache), recipe.items_per_epoch)
        self.steps = (self.drawn + recipe.batch - 1) // recipe.batch
        self.weights = [_balanced(cache.columns["truth"][:, i], n, recipe.balance) for i, n in enumerate(options)]
        parameters = [*self.network.parameters(), *self.lanes.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
        )
        self.schedule = warm_cosine(self.optimizer, recipe.warmup, recipe.epochs * self.steps)
        self.step = 0

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """An epoch's items."""
        return weighted_draw(self.chance, self.drawn, rng)

    def epoch(self, epoch: int, progress: Any) -> float:
        """One pass over a fresh draw of items; the mean loss a row."""
        self.network.train()
        rng = np.random.default_rng([self.recipe.seed, epoch])
        total = 0.0
        for parts in batches(self.cache, self.draw(rng), self.recipe.disturbance, self.recipe.batch, rng):
            rows = sum(batch.size for batch, _ in parts)
            with torch.autocast("cpu", torch.bfloat16):
                prefix = self.network.prefix_cache()
                loss = torch.stack([self._loss(batch, truth, prefix) for batch, truth in parts]).sum() / rows
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
            self.optimizer.step()
            self.schedule.step()
            self._average()
            total += float(loss.detach()) * rows
            progress.update()
        return total / self.drawn

    def _loss(self, batch: Any, truth: Tensor, prefix: Any) -> Tensor:
        """Summed over rows."""
        seen = self.network.see(batch.crops) if len(batch.crop_rows) else None
        answers = self.network.answer(*self.network.visual(batch, seen), prefix)
        loss = self._cross_entropy(answers, truth)
        if seen is not None:
            loss = loss + self.recipe.lane_heads * self._cross_entropy(self.lanes["crop"](seen), truth[batch.crop_rows])
        if len(batch.map_rows):
            mapped = self.lanes["maps"](self.network.projector.project_maps(batch.maps))
            loss = loss + self.recipe.lane_heads * self._cross_entropy(mapped, truth[batch.map_rows])
        return loss

    def _cross_entropy(self, answers: Sequence[Tensor], truth: Tensor) -> Tensor:
        losses = [
            functional.cross_entropy(
                logits.float(), truth[:, i], weight, reduction="none", label_smoothing=self.recipe.smoothing
            ).sum()
            for i, (logits, weight) in enumerate(zip(answers, self.weights, strict=True))
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _average(self) -> None:
        self.step += 1
        keep = min(self.recipe.average, self.step / (self.step + 10))
        for kept, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(now, 1 - keep)

    def save(self, path: Path, begun: Mapping[str, str], epoch: int, run: ReviewerRun) -> None:
        """Everything that is needed to go on, written whole or not at all."""
        state = {
            "epoch": epoch,
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best,
            "lanes": self.lanes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "figures": {"best": run.best, "epochs": run.epochs},
        }
        save_run(path, begun, state)

    def restore(self, path: Path, begun: Mapping[str, str], run: ReviewerRun) -> int:
        """Take up a saved run; returns how many epochs are done, 0 when there is nothing saved."""
        state = load_run(path, begun)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.lanes.load_state_dict(state["lanes"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.step = state["best"], int(state["step"])
        self.schedule.load_state_dict(state["schedule"])
        run.best, run.epochs = state["figures"]["best"], state["figures"]["epochs"]
        return int(state["epoch"])


def _balanced(truth: Any, options: int, power: float) -> Tensor:
    """Weights (options,) that grow as an option gets rarer, 1 on average over the rows."""
    share = np.maximum(np.bincount(truth, minlength=options) / max(1, len(truth)), 1e-3)
    weight = share**-power
    return torch.from_numpy((weight / (weight * share).sum()).astype(np.float32))
