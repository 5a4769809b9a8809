"""Speech tokens: log-mel by a convolution inside the graph, a convolution stack, two self-attention layers."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.attention import SelfAttentionLayer
from fusion.encoders.registry import Positions
from fusion.encoders.spotting import SpottingEncoder, halved
from fusion.errors import ConfigError
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


def fourier_basis(window: int, points: int) -> Tensor:
    """Kernels (2 * bins, 1, window), cosines then negative sines under a periodic Hann window: a Fourier transform of
    `points` points as a convolution, bins = points / 2 + 1.
    """
    phase = 2 * np.pi * np.arange(points // 2 + 1)[:, None] * np.arange(window) / points
    hann = np.hanning(window + 1)[:-1]
    basis = np.concatenate([np.cos(phase), -np.sin(phase)]) * hann  # (2 * bins, window)
    return torch.tensor(basis, dtype=torch.float32)[:, None]


class LogMel(nn.Module):
    """`pcm` (B, n) float32 in -1..1 → log-mel (B, mels, frames), each band free of its mean over time.

    `window` samples a frame, transformed to `points` points. Raises `ConfigError` when they are too few to tell the
    lowest bands apart.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, mels: int = MELS, window: int = WINDOW, points: int = WINDOW) -> None:
        super().__init__()
        filters = mel_filters(points // 2 + 1, mels)
        if points < window or not filters.any(1).all():
            raise ConfigError(
                f"log-mel: {mels} bands of a Fourier transform of {points} points over {window} samples leave a band "
                "empty; take more points or fewer bands"
            )
        self.register_buffer("basis", fourier_basis(window, points))
        self.register_buffer("filters", torch.from_numpy(filters)[:, :, None])

    def forward(self, pcm: Tensor) -> Tensor:
        """A Fourier transform as a convolution, power, mel bands, logarithm."""
        spectrum = functional.conv1d(pcm[:, None], self.basis, stride=HOP)  # (B, 2 * bins, frames)
        real, imaginary = spectrum.chunk(2, 1)
        power = real * real + imaginary * imaginary
        logarithm = torch.log(functional.conv1d(power, self.filters) + 1e-4) / 3.0
        return logarithm - logarithm.mean(2, keepdim=True)


class SpeechEncoder(SpottingEncoder):
    """Frames from three convolutions and two self-attention layers over log-mel."""

    @classmethod
    def from_spec(cls, spec: FusionSpec, _positions: Positions, /) -> Self:
        """Ears for the words and intents of `spec`; sound has no place."""
        return cls(spec.width, spec.heads, len(spec.words), len(spec.intents), spec.samples, spec.dropout)

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
        self.dropout = nn.Dropout(dropout)
        self.add_heads(width, words, intents, halved(halved((samples - WINDOW) // HOP + 1)))

    def frames_of(self, pcm: Tensor, position: Tensor, /) -> tuple[Tensor, Tensor | None]:
        """Every frame counts."""
        x = self.mel(pcm).transpose(1, 2)  # (B, frames, MELS)
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = functional.gelu(norm(convolution(x.transpose(1, 2)).transpose(1, 2)))
            x = y if index < 2 else x + y
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, position)
        return x, None
