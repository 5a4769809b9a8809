"""Speech tokens: log-mel by a convolution inside the graph, a convolution stack, two self-attention layers."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.attention import SelfAttentionLayer
from fusion.encoders.registry import Positions
from fusion.preparation.fusion_spec import FusionSpec
from fusion.types import Float32Array

SAMPLE_RATE_HZ = 16000
WINDOW = 320
"""Samples a Fourier frame: 20 ms."""
HOP = 160
FRAME_SAMPLES = 4 * HOP
"""Samples from one token to the next: 40 ms."""
MELS = 40


def mel_filters(bins: int, mels: int, low_hz: float = 80.0, high_hz: float = 7600.0) -> Float32Array:
    """Triangular filters (mels, bins) on the mel scale of O'Shaughnessy (1987)."""

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1 + hertz / 700.0)

    edges_mel = np.linspace(to_mel(low_hz), to_mel(high_hz), mels + 2)
    edges = 700.0 * (10 ** (edges_mel / 2595.0) - 1)  # (mels + 2,) hertz
    frequencies = np.linspace(0, SAMPLE_RATE_HZ / 2, bins)
    rise = (frequencies - edges[:-2, None]) / (edges[1:-1, None] - edges[:-2, None])
    fall = (edges[2:, None] - frequencies) / (edges[2:, None] - edges[1:-1, None])
    filters = np.maximum(0.0, np.minimum(rise, fall))
    return np.asarray(filters / np.maximum(filters.sum(1, keepdims=True), 1e-6), np.float32)


class LogMel(nn.Module):
    """`pcm` (B, n) float32 in -1..1 → log-mel (B, MELS, frames), each band free of its mean over time."""

    basis: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = WINDOW // 2 + 1
        time = np.arange(WINDOW)
        phase = 2 * np.pi * np.arange(bins)[:, None] * time / WINDOW
        window = np.hanning(WINDOW + 1)[:-1]
        basis = np.concatenate([np.cos(phase), -np.sin(phase)]) * window  # (2 * bins, WINDOW)
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32)[:, None])
        self.register_buffer("filters", torch.from_numpy(mel_filters(bins, MELS))[:, :, None])

    def forward(self, pcm: Tensor) -> Tensor:
        """A Fourier transform as a convolution, power, mel bands, logarithm."""
        spectrum = functional.conv1d(pcm[:, None], self.basis, stride=HOP)  # (B, 2 * bins, frames)
        real, imaginary = spectrum.chunk(2, 1)
        power = real * real + imaginary * imaginary
        logarithm = torch.log(functional.conv1d(power, self.filters) + 1e-4) / 3.0
        return logarithm - logarithm.mean(2, keepdim=True)


class SpeechEncoder(nn.Module):
    """Three seconds of sound to one summary token and one token every 40 ms.

    The words that were heard are spotted by a small head that is trained directly (`hear`); the summary
    token, first in the sequence, is made of nothing but its word probabilities.
    """

    INPUTS: ClassVar = ("pcm",)
    time: Tensor

    @classmethod
    def from_spec(cls, spec: FusionSpec, positions: Positions) -> Self:  # noqa: ARG003 - sound has no place
        """Ears for the words and intents of `spec`."""
        return cls(spec.width, spec.heads, len(spec.words), len(spec.intents), spec.samples, spec.dropout)

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        return {"pcm": torch.zeros(1, spec.samples)}

    def __init__(self, width: int, heads: int, words: int, intents: int, samples: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.mel = LogMel()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(MELS, width, 5, stride=2, padding=2),
                nn.Conv1d(width, width, 5, stride=2, padding=2),
                nn.Conv1d(width, width, 5, padding=2),
            ]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convolutions)
        self.layers = nn.ModuleList(SelfAttentionLayer(width, heads, 2 * width, dropout) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.word_head = nn.Linear(width, words)
        self.intent_head = nn.Linear(width, intents)
        self.summary = nn.Linear(words + intents, width)
        frames = (samples - WINDOW) // HOP + 1
        for _ in range(2):
            frames = (frames - 1) // 2 + 1
        self.frames = frames
        self.register_buffer("time", _time_features(frames), persistent=False)  # (1, frames, 16)
        self.time_layer = nn.Linear(16, width)

    def forward(self, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`pcm` (B, samples) float32 in -1..1 → tokens and positions, both (B, 1 + frames, D), and the probability
        of each word (B, words).
        """
        tokens, position, words, _, _ = self.hear(pcm)
        return tokens, position, words.sigmoid()

    def hear(self, pcm: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Tokens, positions, and logits: words (B, words), intent (B, intents), words a frame (B, frames, words)."""
        x = self.mel(pcm).transpose(1, 2)  # (B, frames, MELS)
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = functional.gelu(norm(convolution(x.transpose(1, 2)).transpose(1, 2)))
            x = y if index < 2 else x + y
        x = self.dropout(x)
        position = self.time_layer(self.time)
        for layer in self.layers:
            x = layer(x, position)
        x = self.norm(x)
        spotted = self.word_head(x)  # (B, frames, words)
        words = torch.logsumexp(spotted, 1) - math.log(self.frames)
        intent = torch.logsumexp(self.intent_head(x), 1) - math.log(self.frames)
        heard = torch.cat([words.sigmoid(), intent.softmax(1)], 1)
        summary = self.summary(heard)[:, None]
        tokens = torch.cat([summary, x], 1)
        position = torch.cat([torch.zeros_like(position[:, :1]), position], 1)
        return tokens, position.expand(len(pcm), -1, -1), words, intent, spotted


def _time_features(frames: int) -> Tensor:
    cycles = torch.logspace(-1, 4, 8, base=2.0)
    phase = 2 * math.pi * torch.linspace(0, 1, frames)[:, None] * cycles
    return torch.cat([phase.sin(), phase.cos()], 1)[None]
