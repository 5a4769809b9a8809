"""What all speech encoders share: words are spotted in frames, and a summary token is made of what was spotted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion.preparation.fusion_spec import FusionSpec


class SpottingEncoder(nn.Module, ABC):
    """A window of sound to one summary token and one token every 40 ms.

    The words that were heard are spotted by a small head that is trained directly (`hear`); the summary token, first
    in the sequence, is made of nothing but word and intent probabilities. A subclass makes the frames (`frames_of`)
    and calls `add_heads` last in its constructor.
    """

    INPUTS: ClassVar = ("pcm",)
    time: Tensor
    frames: int

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        return {"pcm": torch.zeros(1, spec.samples)}

    def add_heads(self, width: int, words: int, intents: int, frames: int) -> None:
        """Add what spots `words` and `intents` in `frames` frames of `width` numbers."""
        self.norm = nn.LayerNorm(width)
        self.word_head = nn.Linear(width, words)
        self.intent_head = nn.Linear(width, intents)
        self.summary = nn.Linear(words + intents, width)
        self.frames = frames
        self.register_buffer("time", _time_features(frames), persistent=False)  # (1, frames, 16)
        self.time_layer = nn.Linear(16, width)

    @abstractmethod
    def frames_of(self, pcm: Tensor, position: Tensor, /) -> tuple[Tensor, Tensor | None]:
        """`pcm` (B, samples) float32 in -1..1, `position` (1, frames, D) → frames (B, frames, D), before the last
        normalisation, and which of them (B, frames) bool hold sound, at least one a row; None when all count.
        """

    def forward(self, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`pcm` (B, samples) float32 in -1..1 → tokens and positions, both (B, 1 + frames, D), and the probability
        of each word (B, words).
        """
        tokens, position, words, _, _ = self.hear(pcm)
        return tokens, position, words.sigmoid()

    def hear(self, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Tokens, positions, and logits: words (B, words), intent (B, intents), words a frame (B, frames, words)."""
        position = self.time_layer(self.time)
        x, valid = self.frames_of(pcm, position)
        x = self.norm(x)
        spotted = self.word_head(x)  # (B, frames, words)
        words = _over_frames(spotted, valid)
        intent = _over_frames(self.intent_head(x), valid)
        heard = torch.cat([words.sigmoid(), intent.softmax(1)], 1)
        summary = self.summary(heard)[:, None]
        tokens = torch.cat([summary, x], 1)
        position = torch.cat([torch.zeros_like(position[:, :1]), position], 1)
        return tokens, position.expand(len(pcm), -1, -1), words, intent, spotted


def halved(count: int) -> int:
    """What a convolution of stride 2 that pads half its odd kernel leaves of `count` frames."""
    return (count - 1) // 2 + 1


def _over_frames(logits: Tensor, valid: Tensor | None) -> Tensor:
    """The soft maximum (B, n) of `logits` (B, frames, n): the logarithm of the mean over valid frames of exp."""
    if valid is None:
        return torch.logsumexp(logits, 1) - math.log(logits.shape[1])
    masked = torch.where(valid[..., None], logits, torch.full_like(logits, float("-inf")))
    return torch.logsumexp(masked, 1) - valid.sum(1, keepdim=True).to(logits.dtype).log()


def _time_features(frames: int) -> Tensor:
    cycles = torch.logspace(-1, 4, 8, base=2.0)
    phase = 2 * math.pi * torch.linspace(0, 1, frames)[:, None] * cycles
    return torch.cat([phase.sin(), phase.cos()], 1)[None]
