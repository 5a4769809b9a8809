"""A recogniser of ten spoken commands, learnt from few real clips and many synthetic voices.

The speech encoder at one second. AdamW with warm-up and a cosine, gradient clipping, a moving average of the weights;
bands and frames of the log-mel are masked (Park et al., "SpecAugment", Interspeech 2019). The same recipe and clips
give the same recogniser.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from fusion.encoders.speech import LogMel, SpeechEncoder
from fusion.training.command_clips import CLIP_SAMPLES, COMMANDS, NONE
from fusion.training.command_sounds import Acoustics, Mixer
from fusion.types import Float32Array

_LOUDNESS = 0.1
_MOST_GAIN = 30.0


@dataclass(frozen=True, slots=True)
class CommandRecipe:
    """What a run is made of; `ema` is the average's decay a step, `smoothing` that of the labels."""

    width: int = 128
    heads: int = 4
    dropout: float = 0.1
    steps: int = 1200
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    ema: float = 0.99
    clip: float = 1.0
    smoothing: float = 0.05
    bands: int = 6
    frames: int = 12
    masks: int = 2
    seed: int = 7
    acoustics: Acoustics = field(default_factory=Acoustics)


class MaskedLogMel(LogMel):
    """Log-mel of which, in training, `masks` stretches of up to `bands` bands and up to `frames` frames are zero."""

    def __init__(self, masks: int, bands: int, frames: int) -> None:
        super().__init__()
        self._masks, self._widths = masks, (bands, frames)

    def forward(self, pcm: Tensor) -> Tensor:
        """`pcm` (B, n) float32 → (B, MELS, frames)."""
        mel: Tensor = super().forward(pcm)
        if not self.training:
            return mel
        for axis, widest in zip((1, 2), self._widths, strict=True):
            size = mel.shape[axis]
            for _ in range(self._masks):
                width = torch.rand(len(mel), 1) * widest
                first = torch.rand(len(mel), 1) * (size - width)
                places = torch.arange(size)
                hidden = (places >= first) & (places < first + width)  # (B, size)
                mel = mel.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None], 0.0)
        return mel


class CommandRecogniser(nn.Module):
    """A second of sound to the probabilities of the ten commands and of none of them."""

    def __init__(self, recipe: CommandRecipe) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(recipe.width, recipe.heads, NONE, 1, CLIP_SAMPLES, recipe.dropout)
        self.encoder.mel = MaskedLogMel(recipe.masks, recipe.bands, recipe.frames)
        self.encoder.summary.requires_grad_(requires_grad=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """`pcm` (B, CLIP_SAMPLES) float32 of any loudness → logits (B, NONE + 1), the last of none of the commands."""
        loudness = pcm.square().mean(1, keepdim=True).sqrt()
        level = (_LOUDNESS / loudness.clamp_min(1e-6)).clamp_max(_MOST_GAIN)
        _, _, words, none, _ = self.encoder.hear(pcm * level)
        return torch.cat([words, none], 1)

    @torch.inference_mode()
    def probabilities(self, sounds: Float32Array, batch: int = 128) -> Float32Array:
        """`sounds` (n, CLIP_SAMPLES) → (n, NONE + 1)."""
        self.eval()
        found = [self(torch.from_numpy(sounds[i : i + batch])).softmax(1).numpy() for i in range(0, len(sounds), batch)]
        return np.concatenate(found)


def train_commands(
    mixer: Mixer, recipe: CommandRecipe, start: CommandRecogniser | None = None
) -> CommandRecogniser:
    """A recogniser taught what `mixer` draws, from the weights of `start` on if given; the averaged weights."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 11])
    model = CommandRecogniser(recipe)
    if start is not None:
        model.load_state_dict(start.state_dict())
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
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
        averaged.update_parameters(model)
        mean = float(loss.detach()) if step == 0 else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 10 == 0:
            progress.set_postfix(loss=f"{mean:.3f}")
    final: CommandRecogniser = averaged.module
    return final.eval()


def choose_threshold(probabilities: Float32Array, labels: NDArray[np.int64], false_accepts: float) -> float:
    """The least threshold at which, of what is no command, at most a share of `false_accepts` is taken for one."""
    best = np.sort(probabilities[labels == NONE, :NONE].max(1))
    allowed = int(false_accepts * len(best))
    return float(best[len(best) - 1 - allowed]) if len(best) else 0.5


def decide(probabilities: Float32Array, threshold: float) -> NDArray[np.int64]:
    """The commands heard (n,): the likeliest where its probability is over `threshold`, else NONE."""
    words = probabilities[:, : len(COMMANDS)]
    return np.where(words.max(1) > threshold, words.argmax(1), NONE)


def _rate(recipe: CommandRecipe, step: int) -> float:
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, recipe.steps)))
    return recipe.learning_rate * warm * (0.02 + 0.98 * cosine)
