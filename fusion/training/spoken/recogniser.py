"""A speech encoder as a recogniser of single words: a second of sound to ten commands, or none of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.conformer import ConformerEncoder
from fusion.encoders.speech import LogMel, SpeechEncoder
from fusion.training.spoken.clips import CLIP_SAMPLES, NONE
from fusion.types import Float32Array

_LOUDNESS = 0.1
"""Root mean square that every sound is brought to."""
_MOST_GAIN = 30.0


@dataclass(frozen=True, slots=True)
class EarSizes:
    """The encoder's sizes: `layers` 0 is the bundled ears' `SpeechEncoder`, more are those of a `ConformerEncoder`.

    `mels`, `window` and `points` are those of `LogMel`; the bundled ears' are 40, 320 and 320.
    """

    width: int = 128
    heads: int = 4
    dropout: float = 0.1
    layers: int = 0
    hidden: int = 0
    kernel: int = 15
    mels: int = 40
    window: int = 320
    points: int = 320


@dataclass(frozen=True, slots=True)
class Masking:
    """What is hidden and warped of a training sound's log-mel.

    `masks` stretches of up to `bands` bands and as many of up to `frames` frames are zero (Park et al., "SpecAugment",
    Interspeech 2019). Bands are moved as a vocal tract longer or shorter by up to a share of `warp` would move them
    (Jaitly and Hinton, 2013), and time runs faster or slower by up to a share of `tempo`.
    """

    masks: int = 2
    bands: int = 6
    frames: int = 12
    warp: float = 0.1
    tempo: float = 0.1


class MaskedLogMel(LogMel):
    """Log-mel that is warped and masked in training alone."""

    def __init__(self, sizes: EarSizes, masking: Masking) -> None:
        super().__init__(sizes.mels, sizes.window, sizes.points)
        self._masking = masking

    def forward(self, pcm: Tensor) -> Tensor:
        """`pcm` (B, n) float32 → (B, mels, frames)."""
        mel: Tensor = super().forward(pcm)
        if not self.training:
            return mel
        how = self._masking
        mel = _warped(mel, how.warp, how.tempo)
        for axis, widest in ((1, how.bands), (2, how.frames)):
            size = mel.shape[axis]
            width = torch.rand(len(mel), how.masks, 1, device=mel.device) * widest
            first = torch.rand(len(mel), how.masks, 1, device=mel.device) * (size - width)
            places = torch.arange(size, device=mel.device)
            hidden = ((places >= first) & (places < first + width)).any(1)  # (B, size)
            mel = mel.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None], 0.0)
        return mel


class CommandRecogniser(nn.Module):
    """A second of sound to the probabilities of the ten commands and of none of them."""

    def __init__(self, sizes: EarSizes, masking: Masking) -> None:
        super().__init__()
        self.encoder = _encoder(sizes)
        self.encoder.mel = MaskedLogMel(sizes, masking)
        self.encoder.summary.requires_grad_(requires_grad=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """`pcm` (B, CLIP_SAMPLES) float32 of any loudness → logits (B, NONE + 1), the last of none of the commands."""
        loudness = pcm.square().mean(1, keepdim=True).sqrt()
        level = (_LOUDNESS / loudness.clamp_min(1e-6)).clamp_max(_MOST_GAIN)
        _, _, words, none, _ = self.encoder.hear(pcm * level)
        return torch.cat([words, none], 1)

    @torch.inference_mode()
    def probabilities(self, sounds: Tensor, batch: int = 128) -> Float32Array:
        """`sounds` (n, CLIP_SAMPLES) on the model's device → (n, NONE + 1)."""
        self.eval()
        found = [self(part).softmax(1).cpu().numpy() for part in torch.split(sounds, batch)]
        return np.concatenate(found)

    def count(self) -> int:
        """Numbers that are learned."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def decide(probabilities: Float32Array, threshold: float) -> NDArray[np.int64]:
    """The commands heard (n,): the likeliest where its probability is over `threshold`, else NONE."""
    words = probabilities[:, :NONE]
    return np.where(words.max(1) > threshold, words.argmax(1), NONE)


def _encoder(sizes: EarSizes) -> SpeechEncoder | ConformerEncoder:
    if not sizes.layers:
        return SpeechEncoder(sizes.width, sizes.heads, NONE, 1, CLIP_SAMPLES, sizes.dropout)
    return ConformerEncoder(
        sizes.width,
        sizes.heads,
        NONE,
        1,
        CLIP_SAMPLES,
        sizes.dropout,
        layers=sizes.layers,
        hidden=sizes.hidden,
        kernel=sizes.kernel,
        mels=sizes.mels,
        window=sizes.window,
        points=sizes.points,
    )


def _warped(mel: Tensor, warp: float, tempo: float) -> Tensor:
    """`mel` (B, mels, frames) stretched in bands about the lowest, and in time about the middle."""
    scale = 1 + (2 * torch.rand(2, len(mel), device=mel.device) - 1) * mel.new_tensor([[tempo], [warp]])
    zero = torch.zeros_like(scale[0])
    rows = [torch.stack([scale[0], zero, zero], 1), torch.stack([zero, scale[1], scale[1] - 1], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), [len(mel), 1, *mel.shape[1:]], align_corners=True)
    return functional.grid_sample(mel[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
