"""Trains the fusion model: first the ears on a bank of utterances, then everything on cached scenes.

AdamW with warm-up and a cosine, gradient clipping, an exponential moving average of the weights, modality
dropout in the data, a checkpoint an epoch. The same recipe and cache give the same model; `resume` goes on from
the last finished epoch.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusion.codec import Profile
from fusion.encoders.speech import FRAME_SAMPLES
from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import (
    TrainingState,
    load_fusion,
    load_state,
    round_to_half,
    save_fusion,
    save_state,
    take_over,
)
from fusion.model.sizes import items_spec
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.training.fusion_data import SceneSampler, batches
from fusion.training.fusion_metrics import evaluate_fusion, table
from fusion.training.fusion_targets import assign, fusion_losses, speech_losses, spotting_loss
from fusion.training.optimisation import adamw, optimizer_tensors, restore_optimizer, set_rate, take_step
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank, spoken_words, vocabulary, word_frames

LOSS_WEIGHTS = {
    "label": 1.0,
    "condition": 1.5,
    "asked": 1.5,
    "box": 1.0,
    "intent": 0.5,
    "alarm": 0.3,
    "words": 2.0,
    "heard intent": 0.3,
    "frames": 6.0,
}


@dataclass(frozen=True, slots=True)
class FusionRecipe:
    """What a run is made of. `ema` is the average's decay a step; speech is trained alone for `speech_steps` first."""

    epochs: int = 14
    batch: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    ema: float = 0.995
    clip: float = 1.0
    speech_steps: int = 3000
    speech_batch: int = 48
    seed: int = 7
    threads: int = 2
    half: bool = True
    tensorboard: bool = False


def train_fusion(
    cache: FeatureCache,
    out: Path,
    recipe: FusionRecipe,
    *,
    spec: FusionSpec,
    bank: UtteranceBank,
    validation: FeatureCache | None = None,
    resume: bool = False,
    start: Path | None = None,
) -> FusionModel:
    """Train a model of `spec` (see `spec_for`) on `cache` and `bank`.

    Keeps `out/last` (state), `out/best` (the averaged model) and `out/metrics.json`. Returns the averaged model with
    weights rounded to float16, as it is exported. `validation` is measured after every third epoch and, for all
    sensor patterns, at the end. `start` is a bundle to go on from: what fits is taken over.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    if spec.profile != cache.meta["profile"]:
        raise ModelError(f"{cache.folder}: features of another trunk than {spec.profile[:12]}; cache them again")
    if cache.features.item_points.shape[-1] < len(spec.point_scale):
        raise ModelError(f"{cache.folder}: features of an older format; cache them again")
    model = build_fusion(spec)
    run = _Run(model, recipe, SceneSampler(cache, spec, bank), out)
    state = load_state(out / "last") if resume else None
    if state is not None:
        run.restore(state)
    else:
        if start is not None:
            tqdm.write(f"{take_over(model, load_fusion(start)):.0%} of the weights taken over from {start}")
        pretrain_speech(model, bank, recipe)
        run.start()
    unseen = None if validation is None else SceneSampler(validation, spec)
    while run.epoch < recipe.epochs:
        run.train_epoch()
        save_state(out / "last", run.state())
        save_fusion(out / "best", run.averaged)
        if unseen is not None and (run.epoch % 3 == 0 or run.epoch == recipe.epochs):
            figures = evaluate_fusion(run.averaged, unseen, patterns=["all"], limit=256)
            run.note(figures)
    final = round_to_half(run.averaged).eval()
    save_fusion(out / "best", final)
    results = {} if unseen is None else evaluate_fusion(final, unseen)
    report = {"recipe": asdict(recipe), "scenes": len(cache), "history": run.history, "validation": results}
    (out / "metrics.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if results:
        tqdm.write(table(results))
    return final


def pretrain_speech(model: FusionModel, bank: UtteranceBank, recipe: FusionRecipe) -> float:
    """Teach the speech encoder words and intents; returns the last loss, averaged over 20 steps."""
    if not recipe.speech_steps:
        return float("nan")
    rng = np.random.default_rng([recipe.seed, 3])
    spec = model.spec
    words = np.stack([spoken_words(c.text, spec.words) for c in bank.commands])
    intents = np.array([spec.intents.index(c.intent) for c in bank.commands])
    optimizer = _optimizer(model.speech, recipe)
    losses: list[float] = []
    progress = tqdm(range(recipe.speech_steps), desc="speech", unit="step")
    model.speech.train()
    for step in progress:
        _set_rate(optimizer, recipe, step, recipe.speech_steps)
        chosen = rng.integers(len(bank.commands), size=recipe.speech_batch)
        mixed = [bank.mix(int(i), rng) for i in chosen]
        pcm = torch.from_numpy(np.stack([m.sound for m in mixed]))
        said = [
            word_frames(bank.commands[int(i)].text, spec.words, m, model.speech.frames, FRAME_SAMPLES)
            for i, m in zip(chosen, mixed, strict=True)
        ]
        batch = {
            "speech_available": torch.ones(len(chosen), dtype=torch.bool),
            "words": torch.from_numpy(words[chosen]),
            "intent": torch.from_numpy(intents[chosen]),
        }
        with _autocast(recipe):
            _, _, word_logits, intent_logits, spotted = model.speech.hear(pcm)
        parts = speech_losses(word_logits.float(), intent_logits.float(), batch)
        parts["frames"] = spotting_loss(spotted.float(), torch.from_numpy(np.stack(said)))
        loss = sum((LOSS_WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))
        take_step(optimizer, model.speech, loss, recipe.clip)
        losses.append(float(parts["words"].detach()))
        if step % 10 == 0:
            progress.set_postfix(words=f"{np.mean(losses[-20:]):.4f}")
    return float(np.mean(losses[-20:]))


class _Run:
    """One training run: model, average, optimizer, and where it stands."""

    def __init__(self, model: FusionModel, recipe: FusionRecipe, sampler: SceneSampler, out: Path) -> None:
        self.model, self.recipe, self.sampler = model, recipe, sampler
        self.averaged = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.optimizer = _optimizer(model, recipe)
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.steps_an_epoch = len(sampler.cache) // recipe.batch
        self.total = max(1, self.steps_an_epoch * recipe.epochs)
        self._condition_weight = condition_weights(sampler.cache, len(model.spec.conditions))
        self._writer = _writer(out / "tensorboard") if recipe.tensorboard else None

    def start(self) -> None:
        """The average begins where the model is."""
        self.averaged.load_state_dict(self.model.state_dict())

    def train_epoch(self) -> None:
        """One pass over the scenes."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed + self.epoch)
        order = np.random.default_rng([recipe.seed, 5, self.epoch]).permutation(len(self.sampler.cache))
        self.model.train()
        means: dict[str, float] = {}
        source: Iterator[dict[str, Tensor]] = batches(self.sampler, order, recipe.batch, [recipe.seed, self.epoch])
        progress = tqdm(
            source, total=self.steps_an_epoch, desc=f"fusion epoch {self.epoch + 1}/{recipe.epochs}", unit="step"
        )
        for batch in progress:
            for name, value in self._train_step(batch).items():
                means[name] = 0.95 * means.get(name, value) + 0.05 * value
            if self.step % 10 == 0:
                progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
        self.epoch += 1
        self.history.append({"epoch": self.epoch, "loss": {k: round(v, 4) for k, v in means.items()}})

    def _train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        _set_rate(self.optimizer, self.recipe, self.step, self.total)
        targets = assign(batch, self.model.anchors, len(self.model.spec.classes))
        with _autocast(self.recipe):
            outputs, words, intent = self.model(batch)
        outputs = type(outputs)(*(x.float() if x.is_floating_point() else x for x in outputs))
        parts = fusion_losses(outputs, targets, batch, self._condition_weight)
        parts |= speech_losses(words.float(), intent.float(), batch)
        loss = sum((LOSS_WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))
        take_step(self.optimizer, self.model, loss, self.recipe.clip)
        self.step += 1
        self._average()
        values = {name: float(value.detach()) for name, value in parts.items()}
        if self._writer is not None and self.step % 10 == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"loss/{name}", value, self.step)
        return values

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for mine, new in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)

    def note(self, figures: dict[str, dict[str, float]]) -> None:
        """Keep and show what the averaged model reaches."""
        self.history[-1]["validation"] = figures["all"]
        tqdm.write(table(figures))

    def state(self) -> TrainingState:
        """Everything `restore` needs."""
        tensors = {f"model.{k}": v.clone() for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v.clone() for k, v in self.averaged.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()}
        return TrainingState(self.epoch, self.step, tensors, {"history": self.history})

    def restore(self, state: TrainingState) -> None:
        """Go on from a saved state."""
        self.epoch, self.step, self.history = state.epoch, state.step, list(state.facts["history"])
        self.model.load_state_dict(state.part("model"))
        self.averaged.load_state_dict(state.part("average"))
        restore_optimizer(self.optimizer, state.part("optimizer"))


def condition_weights(cache: FeatureCache, conditions: int) -> Tensor:
    """Loss weights (K,) that halve, on a log scale, the odds between common and rare conditions; mean one an object."""
    known = np.asarray(cache.features.condition)[np.asarray(cache.features.clear)]
    counts = np.bincount(known[known >= 0], minlength=conditions).astype(np.float64)
    weights = 1 / np.sqrt(np.maximum(counts, 1.0))
    weights *= counts.sum() / max(float((weights * counts).sum()), 1e-9)
    return torch.tensor(np.where(counts > 0, weights, 0.0), dtype=torch.float32)


def spec_for(
    cache: FeatureCache, task: Task, profile: Profile, bank: UtteranceBank, *, size: str = "small"
) -> FusionSpec:
    """The model of a named size for a trunk, its maps' spread measured on `cache`, its vocabulary heard in `bank`."""
    by_stride = {level.stride: level for level in profile.levels}
    steps = (by_stride[16].step.tolist(), by_stride[32].step.tolist())
    some = slice(0, min(len(cache), 64))
    gains = tuple(
        max(float((np.asarray(codes[some], np.float32) * np.array(step)[:, None, None]).std()), 1e-6)
        for codes, step in zip((cache.features.p4, cache.features.p5), steps, strict=True)
    )
    return items_spec(
        task,
        profile=profile.sha256,
        image_size=(profile.image_width, profile.image_height),
        steps=steps,
        gains=(gains[0], gains[1]),
        words=vocabulary(command.text for command in bank.commands if command.intent != "none"),
        size=size,
    )


def _optimizer(module: torch.nn.Module, recipe: FusionRecipe) -> torch.optim.AdamW:
    return adamw(module, recipe.learning_rate, recipe.weight_decay)


def _set_rate(optimizer: torch.optim.Optimizer, recipe: FusionRecipe, step: int, total: int) -> None:
    set_rate(optimizer, recipe.learning_rate, recipe.warmup_steps, step, total)


def _autocast(recipe: FusionRecipe) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if recipe.half else nullcontext()


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
