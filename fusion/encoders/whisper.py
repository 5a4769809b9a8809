"""The encoder of Whisper (Radford et al., 2023) with its front end inside the graph: sound → frames every 20 ms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.speech import HOP, SAMPLE_RATE_HZ, fourier_basis
from fusion.errors import ConfigError

FRAME_SAMPLES = 2 * HOP
"""Samples from one frame to the next: 20 ms."""
WINDOW = 400
"""Samples a Fourier frame: 25 ms."""
_TOP_HZ = 8000.0


class WhisperListener(nn.Module):
    """The encoder on windows shorter than its thirty seconds.

    It was trained on sound padded to thirty seconds; here only the first of its positions are used, which costs as
    much less as the window is shorter, and frames differ a little from those of the padded window.
    """

    def __init__(self, model: Any, samples: int) -> None:
        super().__init__()
        config = model.config
        if samples % FRAME_SAMPLES or not 0 < samples <= FRAME_SAMPLES * config.max_source_positions:
            raise ConfigError(
                f"whisper: a window of {samples} samples; multiples of {FRAME_SAMPLES} up to "
                f"{FRAME_SAMPLES * config.max_source_positions} are possible"
            )
        self.frames, self.width = samples // FRAME_SAMPLES, config.d_model
        self.mel, self.encoder = WhisperMel(config.num_mel_bins), model.encoder
        positions = self.encoder.embed_positions.weight.detach()[: self.frames].clone()
        self.encoder.embed_positions = nn.Embedding(self.frames, self.width, _weight=positions, _freeze=True)
        self.encoder.config.max_source_positions = self.encoder.max_source_positions = self.frames

    def forward(self, pcm: Tensor) -> tuple[Tensor, Tensor | None]:
        """`pcm` (B, samples) float32 in -1..1 → frames (B, F, width); all count."""
        return self.encoder(self.mel(pcm)).last_hidden_state, None


class WhisperMel(nn.Module):
    """`pcm` (B, n) float32 in -1..1 → Whisper's log-mel (B, mels, n / 160), by convolutions."""

    basis: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        bank = mel_filter_bank(WINDOW // 2 + 1, mels, 0.0, _TOP_HZ, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney")
        self.register_buffer("basis", fourier_basis(WINDOW, WINDOW), persistent=False)
        self.register_buffer("filters", torch.tensor(bank.T[:, :, None], dtype=torch.float32), persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Power in mel bands, its decimal logarithm no more than 8 below the window's loudest, scaled."""
        half = WINDOW // 2
        padded = functional.pad(pcm[:, None], (half, half), mode="reflect")
        spectrum = functional.conv1d(padded, self.basis, stride=HOP)[:, :, :-1]  # (B, 2 * bins, frames)
        real, imaginary = spectrum.chunk(2, 1)
        power = functional.conv1d(real * real + imaginary * imaginary, self.filters)
        logarithm = torch.log10(power.clamp(min=1e-10))
        return (torch.maximum(logarithm, logarithm.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
