"""Teaches a recogniser ten spoken commands from few real clips and many synthetic voices.

First it hears synthetic voices alone, which no fold's clips are needed for; then real clips and synthetic words in
turn. AdamW with warm-up and a cosine, gradient clipping, a moving average of the weights; bands and frames of the
log-mel are masked (Park et al., "SpecAugment", Interspeech 2019). The same recipe and clips give the same recogniser.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from fusion.errors import ModelError
from fusion.training.command_clips import NONE, Fold, WordClips
from fusion.training.command_recogniser import CommandRecogniser, MaskedLogMel
from fusion.training.command_sounds import Acoustics, Mixer, in_noise, training_noises
from fusion.types import Float32Array

_SEEDS = 1_000_000
"""From one recipe seed to the next in the simulation's seeds."""
_CHECK_DB = (None, 20.0, 10.0, 5.0, 0.0)
"""Signal to noise that the threshold's clips are heard at; None is the clip as it is."""


@dataclass(frozen=True, slots=True)
class CommandRecipe:
    """What a run is made of; `ema` is the average's decay a step, `smoothing` that of the labels.

    `masks` stretches of up to `bands` bands and as many of up to `frames` frames are hidden; `noises` are drawn.
    """

    width: int = 128
    heads: int = 4
    dropout: float = 0.1
    steps: int = 500
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    ema: float = 0.99
    clip: float = 1.0
    smoothing: float = 0.05
    masks: int = 2
    bands: int = 6
    frames: int = 12
    noises: int = 600
    seed: int = 0
    acoustics: Acoustics = field(default_factory=Acoustics)


@dataclass(frozen=True, slots=True, eq=False)
class Spotter:
    """A recogniser and the probability over which its likeliest command counts as heard."""

    model: CommandRecogniser
    threshold: float


def synthetic_recipe() -> CommandRecipe:
    """What a recogniser hears before it hears people."""
    return CommandRecipe(steps=1200, learning_rate=2e-3)


def small_recipe() -> CommandRecipe:
    """Real clips and synthetic words, after `synthetic_recipe`."""
    return CommandRecipe()


def real_recipe() -> CommandRecipe:
    """Real clips alone, from the start."""
    return CommandRecipe(steps=1200, learning_rate=2e-3)


def learn_synthetic(synthetic: WordClips, recipe: CommandRecipe, path: Path | None = None) -> CommandRecogniser:
    """A recogniser of synthetic voices, read from `path` (`.safetensors`) if it is there, else kept in it.

    Raises `ModelError` when the file is of another recipe or broken.
    """
    model = _built(recipe)
    if path is not None and path.is_file():
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path}: no recogniser of this recipe ({error}); remove it") from None
        return model.eval()
    noises = training_noises((), recipe.noises, recipe.seed * _SEEDS)
    model = train_commands(Mixer([synthetic], noises, recipe.acoustics), recipe)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    return model


def learn_fold(
    clips: WordClips,
    fold: Fold,
    synthetic: WordClips | None,
    recipe: CommandRecipe,
    *,
    start: CommandRecogniser | None = None,
    false_accepts: float = 0.05,
) -> Spotter:
    """Learn from the fold's training clips and `synthetic`, from `start` on; choose the threshold on other speakers.

    At the threshold a share of at most `false_accepts` of the validation clips that are no command, as they are and
    under noise of the training's kinds, is taken for one. The fold's test clips are not looked at.
    """
    real = clips.take(fold.train)
    noises = training_noises(real.silences(), recipe.noises, recipe.seed * _SEEDS)
    sources = [real] if synthetic is None else [real, synthetic]
    model = train_commands(Mixer(sources, noises, recipe.acoustics), recipe, start)
    waves = [clips.waves[row] for row in fold.validation if clips.labels[row] == NONE]
    rng = np.random.default_rng([recipe.seed, 12])
    heard = [
        wave if level is None else in_noise(wave, noises[int(rng.integers(len(noises)))], level)
        for level in _CHECK_DB
        for wave in waves
    ]
    return Spotter(model, choose_threshold(model.probabilities(np.stack(heard)), false_accepts))


def train_commands(mixer: Mixer, recipe: CommandRecipe, start: CommandRecogniser | None = None) -> CommandRecogniser:
    """A recogniser taught what `mixer` draws, from the weights of `start` on if given; the averaged weights."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 11])
    model = _built(recipe)
    if start is not None:
        model.load_state_dict(start.state_dict())
    averaged = copy.deepcopy(model).eval()
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    model.train()
    mean = 0.0
    progress = tqdm(range(recipe.steps), desc="commands", unit="step")
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, step)
        sounds, labels = mixer.batch(recipe.batch, rng)
        logits = model(torch.from_numpy(sounds))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=recipe.smoothing)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        _average(averaged, model, min(recipe.ema, (1 + step) / (10 + step)))
        mean = float(loss.detach()) if step == 0 else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 10 == 0:
            progress.set_postfix(loss=f"{mean:.3f}")
    return averaged


def choose_threshold(probabilities: Float32Array, false_accepts: float) -> float:
    """The least threshold that at most a share of `false_accepts` of what is no command (n, NONE + 1) passes."""
    likeliest = np.sort(probabilities[:, :NONE].max(1))
    return float(likeliest[len(likeliest) - 1 - int(false_accepts * len(likeliest))])


@torch.no_grad()
def _average(averaged: CommandRecogniser, model: CommandRecogniser, decay: float) -> None:
    for mine, new in zip(averaged.parameters(), model.parameters(), strict=True):
        mine.lerp_(new, 1 - decay)


def _rate(recipe: CommandRecipe, step: int) -> float:
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, recipe.steps)))
    return recipe.learning_rate * warm * (0.02 + 0.98 * cosine)


def _built(recipe: CommandRecipe) -> CommandRecogniser:
    mel = MaskedLogMel(recipe.masks, recipe.bands, recipe.frames)
    return CommandRecogniser(recipe.width, recipe.heads, recipe.dropout, mel)
