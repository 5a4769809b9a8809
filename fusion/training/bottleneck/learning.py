"""Learns a bottleneck and tunes the reviewer that reads it, together: right verdicts, few bits, a head that still sees.

The loss of an item is the reviewer's cross-entropy, plus `rate_weight` times the bits of its codes, plus
`head_weight` times the share of what the detection head reads of its cells that the codes do not tell (head
distillation at the head's first layer, as in Matsubara et al., Supervised Compression for Resource-Constrained Edge
Computing Systems, 2022). Rows come at every rate of evidence, so that what is sent first learns to matter most.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fusion.codec import RATES
from fusion.evaluation.reviewer import escalated_rows
from fusion.review.model import ReviewerNetwork
from fusion.training.bottleneck.batches import cell_batch, head_loss, level_cells
from fusion.training.bottleneck.cells import CellItems
from fusion.training.bottleneck.measuring import measure
from fusion.training.bottleneck.network import Bottleneck, LevelBottleneck
from fusion.training.bottleneck.taps import Tap
from fusion.training.optimisation import warm_cosine
from fusion.training.resuming import arrays_sha256, decisive, load_run, save_run
from fusion.training.reviewer_batches import weighted_draw

_SAMPLE = 20_000
"""Vectors a level that a bottleneck begins with."""


@dataclass(frozen=True, slots=True)
class BottleneckRecipe:
    """What a run is made of; shares are of rows, `hard` as in `ReviewerRecipe`. `rate_weight` is what a bit costs, in
    nats.
    """

    epochs: int = 4
    items_per_epoch: int = 12_000
    hard: float = 3.0
    batch: int = 64
    rate_weight: float = 3e-4
    head_weight: float = 0.1
    learning_rate: float = 1e-3
    reviewer_rate: float = 3e-4
    warmup: float = 0.05
    coarse_rates: float = 0.5
    without_maps: float = 0.1
    smoothing: float = 0.02
    flips: bool = True
    seed: int = 7
    threads: int = 2


@dataclass(slots=True)
class BottleneckRun:
    """Validation figures: of the trunk as it was, and after every epoch."""

    before: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)


def begin(items: CellItems, taps: tuple[Tap, ...], steps: list[float], seed: int) -> Bottleneck:
    """The bottleneck that does what the trunk does already."""
    rng, levels = np.random.default_rng(seed), []
    for tap, cells in zip(taps, items.cells, strict=True):
        chosen = np.sort(rng.permutation(len(cells))[:_SAMPLE])
        levels.append(LevelBottleneck(tap, torch.from_numpy(cells[chosen].astype(np.float32))))
    return Bottleneck(levels, steps)


def train_bottleneck(
    items: CellItems,
    validation: CellItems,
    bottleneck: Bottleneck,
    network: ReviewerNetwork,
    recipe: BottleneckRecipe,
    out: Path,
    *,
    begun_with: str = "",
    resume: bool = False,
    quiet: bool = False,
) -> BottleneckRun:
    """Train both in place; keeps `out/checkpoint.pt` and writes `out/run.json`. The same items, recipe and thread count
    give the same weights, whether or not the run was resumed in between.

    `begun_with` stands for the trunk and the reviewer. Raises `ConfigError` when a run is resumed that was begun with
    another, with other items or by another recipe, and `ModelError` for a damaged checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    arrays = arrays_sha256((*items.columns.values(), *items.starts, *items.cells))
    of = {"recipe": decisive(recipe), "items": arrays, "begun with": begun_with}
    trainer, run = _Trainer(items, bottleneck, network, recipe, of), BottleneckRun()
    done = trainer.restore(out / "checkpoint.pt", run) if resume else 0
    if not done:
        run.before = measure(bottleneck, network, validation)
    total = recipe.epochs * trainer.steps
    with tqdm(total=total, initial=done * trainer.steps, unit="step", desc="bottleneck", disable=quiet) as progress:
        for epoch in range(done, recipe.epochs):
            loss = trainer.epoch(epoch, progress)
            figures = {"epoch": epoch + 1.0, "loss": loss, **measure(bottleneck, network, validation)}
            run.epochs.append(figures)
            progress.set_postfix(right=f"{figures['verdict']:.3f}", bits=f"{figures['bits']:.0f}")
            trainer.save(out / "checkpoint.pt", epoch + 1, run)
    (out / "run.json").write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")
    return run


class _Trainer:
    """The state of a run between epochs."""

    def __init__(
        self,
        items: CellItems,
        bottleneck: Bottleneck,
        network: ReviewerNetwork,
        recipe: BottleneckRecipe,
        of: dict[str, str],
    ) -> None:
        self.items, self.bottleneck, self.network, self.recipe, self.of = items, bottleneck, network, recipe, of
        self.chance = np.where(escalated_rows(items.columns), recipe.hard, 1.0)
        self.drawn = min(len(items), recipe.items_per_epoch)
        self.steps = -(-self.drawn // recipe.batch)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(bottleneck.parameters()), "lr": recipe.learning_rate, "weight_decay": 0.0},
                {"params": list(network.parameters()), "lr": recipe.reviewer_rate, "weight_decay": 0.05},
            ],
            betas=(0.9, 0.98),
        )
        self.schedule = warm_cosine(self.optimizer, recipe.warmup, recipe.epochs * self.steps)

    def epoch(self, epoch: int, progress: Any) -> float:
        """One pass over a fresh draw of items; the mean loss a step."""
        self.network.train()
        self.bottleneck.train()
        torch.manual_seed(self.recipe.seed * 1000 + epoch)
        rng = np.random.default_rng([self.recipe.seed, epoch])
        order = rng.permutation(weighted_draw(self.chance, self.drawn, rng))
        total = 0.0
        for start in range(0, len(order), self.recipe.batch):
            loss = self._loss(order[start : start + self.recipe.batch], rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in self.optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self.optimizer.step()
            self.schedule.step()
            total += float(loss.detach())
            progress.update()
        return total / self.steps

    def _loss(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """The mean over rows."""
        recipe, count = self.recipe, len(rows)
        levels = [level_cells(self.items, index, rows) for index in range(len(self.bottleneck.levels))]
        coarse = rng.random(count) < recipe.coarse_rates
        rates = torch.from_numpy(np.where(coarse, rng.integers(1, len(RATES), count), 0))
        maps, codes = zip(*(self.bottleneck.maps(i, level, rates) for i, level in enumerate(levels)), strict=True)
        turns = torch.from_numpy(rng.integers(0, 4 if recipe.flips else 1, count))
        mapped = np.flatnonzero(rng.random(count) >= recipe.without_maps)
        told = [_turned(values, turns)[mapped] for values in maps]
        answers = self.network(cell_batch(self.items, rows, told, mapped))
        truth = torch.from_numpy(self.items.columns["truth"][rows])
        loss = sum(
            functional.cross_entropy(x.float(), truth[:, i], label_smoothing=recipe.smoothing)
            for i, x in enumerate(answers)
        )
        bits = sum(
            (level.bits(cells.vectors) * cells.open[..., None]).sum()
            for level, cells in zip(self.bottleneck.levels, levels, strict=True)
        )
        lost = head_loss(self.bottleneck, levels, codes).mean()
        whole: Tensor = loss + recipe.rate_weight * bits / count + recipe.head_weight * lost
        return whole

    def save(self, path: Path, epoch: int, run: BottleneckRun) -> None:
        """Everything that is needed to go on, written whole or not at all."""
        state = {
            "epoch": epoch,
            "bottleneck": self.bottleneck.state_dict(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "run": asdict(run),
        }
        save_run(path, self.of, state)

    def restore(self, path: Path, run: BottleneckRun) -> int:
        """Take up a saved run; returns how many epochs are done, 0 when there is nothing saved."""
        state = load_run(path, self.of)
        if state is None:
            return 0
        self.bottleneck.load_state_dict(state["bottleneck"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        run.before, run.epochs = state["run"]["before"], state["run"]["epochs"]
        return int(state["epoch"])


def _turned(values: Tensor, turns: Tensor) -> Tensor:
    """Maps (B, rows, columns, K) mirrored up-down where `turns` has bit 0, left-right where it has bit 1."""
    for bit, axis in ((1, 1), (2, 2)):
        values = torch.where(((turns & bit) > 0)[:, None, None, None], values.flip(axis), values)
    return values
