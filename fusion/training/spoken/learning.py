"""Teaches a recogniser ten spoken commands from few real clips and many synthetic voices.

First it hears synthetic voices alone, which no fold's clips are needed for; then real clips and synthetic words in
turn. AdamW with warm-up and a cosine, gradient clipping, a moving average of the weights.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from fusion.training.optimisation import adamw, set_rate, take_step
from fusion.training.spoken.recogniser import CommandRecogniser, EarSizes, Masking
from fusion.training.spoken.sounds import Acoustics, SoundBank

_ROUND = 1000
"""Steps that the learning rate's way is told in, however many are taken."""


@dataclass(frozen=True, slots=True)
class CommandRecipe:
    """What a run is made of; `first` is the share of `steps` that are on synthetic voices alone, before the others.

    `ema` is the average's decay a step, `smoothing` that of the labels.
    """

    ears: EarSizes = field(default_factory=EarSizes)
    masking: Masking = field(default_factory=Masking)
    acoustics: Acoustics = field(default_factory=Acoustics)
    steps: int = 6000
    first: float = 0.6
    batch: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    ema: float = 0.998
    clip: float = 1.0
    smoothing: float = 0.05


@dataclass(frozen=True, slots=True)
class Effort:
    """The most `steps` and the most `seconds` a run takes; the cosine ends where the first of them does."""

    steps: int
    seconds: float


def candidates() -> dict[str, CommandRecipe]:
    """What is compared on the folds' validation speakers, by name."""
    conformer = EarSizes(width=96, layers=3, hidden=384, kernel=15, mels=64, window=400, points=512, dropout=0.15)
    mixed = CommandRecipe(
        ears=conformer, masking=Masking(bands=10, frames=16, warp=0.15, tempo=0.15), acoustics=Acoustics(mixup=0.4)
    )
    return {
        "convolutions": replace(
            mixed, ears=EarSizes(width=192, dropout=0.15), masking=Masking(frames=16, warp=0.15, tempo=0.15)
        ),
        "conformer": CommandRecipe(ears=conformer, masking=Masking(bands=10)),
        "conformer-mixup": mixed,
        "conformer-mixup-short": replace(mixed, steps=1000),
    }


def train_commands(
    bank: SoundBank, recipe: CommandRecipe, effort: Effort, seed: int, start: CommandRecogniser | None = None
) -> tuple[CommandRecogniser, int]:
    """A recogniser taught what `bank` draws, from the weights of `start` on if given; the averaged weights, and the
    steps it took. The same seed gives the same recogniser where the steps, and not the seconds, end it.
    """
    device = bank.waves.device
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = CommandRecogniser(recipe.ears, recipe.masking).to(device)
    if start is not None:
        model.load_state_dict(start.state_dict())
    averaged = copy.deepcopy(model).eval()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = adamw(torch.nn.ParameterList(learned), recipe.learning_rate, recipe.weight_decay)
    model.train()
    began, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        set_rate(optimizer, recipe.learning_rate, round(recipe.warmup * _ROUND), round(done * _ROUND), _ROUND)
        sounds, shares = bank.batch(recipe.batch, recipe.acoustics, generator)
        take_step(optimizer, model, _loss(model(sounds), shares, recipe.smoothing), recipe.clip)
        _average(averaged, model, min(recipe.ema, (1 + step) / (10 + step)))
        step += 1
        if step % 20 == 0 and device.type == "cuda":
            torch.cuda.synchronize()  # else the clock runs behind what was asked for
        done = max(step / effort.steps, (time.monotonic() - began) / effort.seconds)
    return averaged, step


def _loss(logits: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    return functional.cross_entropy(logits, shares, label_smoothing=smoothing)


@torch.no_grad()
def _average(averaged: CommandRecogniser, model: CommandRecogniser, decay: float) -> None:
    mine, new = averaged.state_dict(), model.state_dict()
    moving = [name for name, tensor in mine.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([mine[name] for name in moving], [new[name] for name in moving], 1 - decay)
