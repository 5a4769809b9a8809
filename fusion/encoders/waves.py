"""Networks of the wav2vec 2.0 family as one thing: sound → frames every 20 ms, and which of them hold sound."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fusion.encoders.speech import HOP
from fusion.errors import ConfigError, ModelError

FRAME_SAMPLES = 2 * HOP
"""Samples from one frame to the next: 20 ms."""


class WaveListener(nn.Module):
    """A network of the wav2vec 2.0 family (Baevski et al., 2020), HuBERT and WavLM among them, which reads samples.

    Zeros before the first sound count as padding where the front end normalises frame by frame (`feat_extract_norm`
    "layer"): they are masked, and frames of sound are what they would be without them. Where it normalises over time
    ("group"), padding changes every frame, and such networks are run on it unmasked, as they were trained.
    """

    starts: Tensor

    def __init__(self, model: Any, samples: int, *, normalised: bool) -> None:
        super().__init__()
        config = model.config
        stride = math.prod(config.conv_stride)
        if stride != FRAME_SAMPLES:
            raise ModelError(f"{config.model_type}: a frame every {stride} samples; {FRAME_SAMPLES} are needed")
        self.features, self.projection, self.encoder = model.feature_extractor, model.feature_projection, model.encoder
        self.masked, self.normalised, self.width = config.feat_extract_norm == "layer", normalised, config.hidden_size
        frames = samples
        for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
            frames = (frames - kernel) // step + 1
        if frames < 1:
            raise ConfigError(f"{config.model_type}: a window of {samples} samples is too short for one frame")
        self.frames = frames
        self.register_buffer("starts", torch.arange(frames) * stride, persistent=False)  # first sample of a frame

    def forward(self, pcm: Tensor) -> tuple[Tensor, Tensor | None]:
        """`pcm` (B, samples) float32 in -1..1 → frames (B, F, width) and which hold sound (B, F) bool, the last always;
        None when all count.
        """
        there = (pcm != 0).cumsum(1) > 0  # from the first sound on
        if self.normalised:
            pcm = _normalised(pcm, there)
        projected = self.projection(self.features(pcm).transpose(1, 2))  # (B, F, width)
        if isinstance(projected, tuple):
            projected = projected[0]
        if not self.masked:
            return self.encoder(projected).last_hidden_state, None
        valid = torch.cat([there[:, self.starts[:-1]], torch.ones_like(there[:, :1])], 1)
        return self.encoder(projected, attention_mask=valid).last_hidden_state, valid


def _normalised(pcm: Tensor, there: Tensor) -> Tensor:
    """`pcm` (B, n) of mean 0 and variance 1 where it is `there` (B, n), zero elsewhere."""
    count = there.sum(1, keepdim=True).clamp(min=1)
    mean = pcm.sum(1, keepdim=True) / count
    centred = torch.where(there, pcm - mean, torch.zeros_like(pcm))
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)
