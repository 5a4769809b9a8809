"""The speech encoder as a recogniser of single words: a second of sound to ten commands, or none of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion.encoders.speech import LogMel, SpeechEncoder
from fusion.training.command_clips import CLIP_SAMPLES, NONE
from fusion.types import Float32Array

_LOUDNESS = 0.1
"""Root mean square that every sound is brought to."""
_MOST_GAIN = 30.0


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

    def __init__(self, width: int, heads: int, dropout: float, mel: MaskedLogMel) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(width, heads, NONE, 1, CLIP_SAMPLES, dropout)
        self.encoder.mel = mel
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


def decide(probabilities: Float32Array, threshold: float) -> NDArray[np.int64]:
    """The commands heard (n,): the likeliest where its probability is over `threshold`, else NONE."""
    words = probabilities[:, :NONE]
    return np.where(words.max(1) > threshold, words.argmax(1), NONE)
