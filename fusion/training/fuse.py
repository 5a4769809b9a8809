"""Trains the fusion model: first the ears on a bank of utterances, then everything on cached scenes.

AdamW with warm-up and a cosine, gradient clipping, an exponential moving average of the weights, modality
dropout in the data, a checkpoint an epoch. The same recipe and cache give the same model; `resume` goes on from
the last finished epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
    WEIGHTS_NAME,
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
from fusion.training.event_log import EventLog, event_log
from fusion.training.fusion_data import SceneSampler, batches
from fusion.training.fusion_metrics import evaluate_fusion, table
from fusion.training.fusion_targets import assign, fusion_losses, speech_losses, spotting_loss
from fusion.training.learner import Learner
from fusion.training.optimisation import BF16, FP32, adamw, autocast, set_rate, take_step
from fusion.training.resuming import arrays_sha256, decisive, file_sha256, refuse_other
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
_FREE = ("threads", "epochs", "tensorboard")
"""What of a recipe may be another when a run goes on."""


@dataclass(frozen=True, slots=True)
class FusionRecipe:
    """What a run is made of. `ema` is the average's decay a step; speech is trained alone for `speech_steps` first.

    `only` names the parts that learn, as `FusionModel.named_modules` does ("fuser.heads.box"); the rest stays as it is,
    bit for bit, and so do the tokens of a model of which only heads learn. Empty: everything learns.
    """

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
    only: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """Of `PRECISIONS`: `half` computes in bfloat16."""
        return BF16 if self.half else FP32


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
    sensor patterns, at the end. `start` is a bundle to go on from: what fits is taken over. A run that is resumed may
    go on for more epochs; raises `ConfigError` for one that was begun with anything else that is given here.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    if spec.profile != cache.meta["profile"]:
        raise ModelError(f"{cache.folder}: features of another trunk than {spec.profile[:12]}; cache them again")
    if cache.features.item_points.shape[-1] < len(spec.point_scale):
        raise ModelError(f"{cache.folder}: features of an older format; cache them again")
    model = build_fusion(spec)
    freeze_all_but(model, recipe.only)
    begun = {
        "recipe": decisive(recipe, _FREE),
        "model": decisive(spec, ()),
        "scenes": _scenes_sha256(cache),
        "utterances": _utterances_sha256(bank),
        "validation scenes": "" if validation is None else _scenes_sha256(validation),
        "start": "" if start is None else file_sha256(start / WEIGHTS_NAME),
    }
    run = _Run(model, recipe, SceneSampler(cache, spec, bank), begun)
    if not (resume and run.restored(out / "last")):
        if start is not None:
            tqdm.write(f"{take_over(model, load_fusion(start)):.0%} of the weights taken over from {start}")
        if not recipe.only:
            pretrain_speech(model, bank, recipe)
        run.learner.average.begin(model)
    unseen = None if validation is None else SceneSampler(validation, spec)
    with event_log(out, wanted=recipe.tensorboard, step=run.learner.step) as log:
        run.finish(out, unseen, log)
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
    optimizer = adamw(model.speech, recipe.learning_rate, recipe.weight_decay)
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
        with autocast("cpu", recipe.precision):
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
    """One training run: what learns, from which scenes, and where it stands."""

    def __init__(
        self, model: FusionModel, recipe: FusionRecipe, sampler: SceneSampler, begun: Mapping[str, str]
    ) -> None:
        self.model, self.recipe, self.sampler, self.begun = model, recipe, sampler, begun
        self.learner = Learner(
            model,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            ema=recipe.ema,
            clip=recipe.clip,
        )
        self.averaged = self.learner.average.model
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.steps_an_epoch = len(sampler.cache) // recipe.batch
        self.total = max(1, self.steps_an_epoch * recipe.epochs)
        self._condition_weight = condition_weights(sampler.cache, len(model.spec.conditions))

    def finish(self, out: Path, unseen: SceneSampler | None, log: EventLog) -> None:
        """All epochs that are left, each with its checkpoint in `out`, the average's figures on `unseen` included."""
        while self.epoch < self.recipe.epochs:
            self._train_epoch(log)
            if unseen is not None and (self.epoch % 3 == 0 or self.epoch == self.recipe.epochs):
                figures = evaluate_fusion(self.averaged, unseen, patterns=["all"], limit=256)
                self.history[-1]["validation"] = figures["all"]
                log.scalars("validation", figures["all"], self.learner.step)
                tqdm.write(table(figures))
            save_state(out / "last", self.learner.state(self.epoch, {"history": self.history, "of": self.begun}))
            save_fusion(out / "best", self.averaged)

    def _train_epoch(self, log: EventLog) -> None:
        """One pass over the scenes."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed + self.epoch)
        order = np.random.default_rng([recipe.seed, 5, self.epoch]).permutation(len(self.sampler.cache))
        self._learning_mode()
        means: dict[str, float] = {}
        source: Iterator[dict[str, Tensor]] = batches(self.sampler, order, recipe.batch, [recipe.seed, self.epoch])
        progress = tqdm(
            source, total=self.steps_an_epoch, desc=f"fusion epoch {self.epoch + 1}/{recipe.epochs}", unit="step"
        )
        for batch in progress:
            values = self._train_step(batch)
            for name, value in values.items():
                means[name] = 0.95 * means.get(name, value) + 0.05 * value
            if self.learner.step % 10 == 0:
                log.scalars("loss", values, self.learner.step)
                log.scalars("optimizer", {"learning_rate": self.learner.rate}, self.learner.step)
                progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
        self.epoch += 1
        self.history.append({"epoch": self.epoch, "loss": {k: round(v, 4) for k, v in means.items()}})

    def _learning_mode(self) -> None:
        """Dropout and running statistics work in what learns, and rest in what is frozen."""
        only = self.recipe.only
        self.model.train(mode=not only)
        for part in only:
            self.model.get_submodule(part).train()

    def _train_step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        _set_rate(self.learner.optimizer, self.recipe, self.learner.step, self.total)
        targets = assign(batch, self.model.anchors, len(self.model.spec.classes))
        with autocast("cpu", self.recipe.precision):
            outputs, words, intent = self.model(batch)
        outputs = type(outputs)(*(x.float() if x.is_floating_point() else x for x in outputs))
        parts = fusion_losses(outputs, targets, batch, self._condition_weight)
        parts |= speech_losses(words.float(), intent.float(), batch)
        self.learner.learn(sum((LOSS_WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(())))
        return {name: float(value.detach()) for name, value in parts.items()}

    def restored(self, folder: Path) -> bool:
        """Whether there is a state in `folder`, from which it now goes on.

        Raises `ConfigError` for one of a run that was begun otherwise, and `ModelError` as `Learner.restore`.
        """
        state = load_state(folder)
        if state is not None:
            refuse_other(folder, state.facts.get("of"), self.begun)
            self.learner.restore(state, folder)
            self.epoch, self.history = state.epoch, list(state.facts["history"])
        return state is not None


def freeze_all_but(model: FusionModel, parts: Sequence[str]) -> None:
    """Let only `parts` of `model` learn; all of it, if there are none. Raises `ModelError` for an unknown part."""
    if not parts:
        return
    names = dict(model.named_modules())
    if unknown := [part for part in parts if not part or part not in names]:
        near = ", ".join(name for name in names if name.count(".") == 2 and name.startswith("fuser.heads"))
        raise ModelError(f"the fusion model has no part {unknown[0]!r}; heads are {near}")
    model.requires_grad_(requires_grad=False)
    for part in parts:
        names[part].requires_grad_()


def _scenes_sha256(cache: FeatureCache) -> str:
    """Of all that is learnt from a cache's scenes."""
    arrays = arrays_sha256(getattr(cache.features, field.name) for field in fields(cache.features))
    return hashlib.sha256(f"{arrays} {cache.transcripts} {cache.phrases}".encode()).hexdigest()


def _utterances_sha256(bank: UtteranceBank) -> str:
    arrays = arrays_sha256((bank.waves, bank.lengths, bank.noises))
    return hashlib.sha256(f"{arrays} {bank.commands}".encode()).hexdigest()


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


def _set_rate(optimizer: torch.optim.Optimizer, recipe: FusionRecipe, step: int, total: int) -> None:
    set_rate(optimizer, recipe.learning_rate, recipe.warmup_steps, step, total)
