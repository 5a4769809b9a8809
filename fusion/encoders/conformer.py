"""Speech tokens by a Conformer (Gulati et al., 2020): log-mel in the graph, two convolutions, torchaudio's layers."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from fusion.encoders.registry import Positions
from fusion.encoders.speech import HOP, MELS, WINDOW, LogMel
from fusion.encoders.spotting import SpottingEncoder, halved
from fusion.errors import ModelError
from fusion.preparation.fusion_spec import FusionSpec


class ConformerEncoder(SpottingEncoder):
    """Frames from a Conformer of `layers` layers, `hidden` wide in the feed-forward parts, with convolutions over
    `kernel` (odd) frames of 40 ms.

    `torchaudio.models.Conformer` itself takes lengths and reads their maximum while it runs, which no graph of
    fixed shapes can; its layers are called without a mask, because windows are of one length. They know no places but
    through their convolutions, so the time encoding is added to what they read. `mels`, `window` and `points` are those
    of `LogMel`.
    """

    @classmethod
    def from_spec(cls, spec: FusionSpec, _positions: Positions, /, **sizes: Any) -> Self:
        """Ears for the words and intents of `spec`; `sizes` are `layers`, `hidden`, `kernel` and those of `LogMel`."""
        return cls(spec.width, spec.heads, len(spec.words), len(spec.intents), spec.samples, spec.dropout, **sizes)

    def __init__(
        self,
        width: int,
        heads: int,
        words: int,
        intents: int,
        samples: int,
        dropout: float = 0.0,
        *,
        layers: int,
        hidden: int,
        kernel: int,
        mels: int = MELS,
        window: int = WINDOW,
        points: int = WINDOW,
    ) -> None:
        super().__init__()
        try:
            from torchaudio.models import Conformer  # takes seconds to import
        except ImportError:
            raise ModelError("speech-conformer: torchaudio is not installed; install fusion-stack[train]") from None
        self.mel = LogMel(mels, window, points)
        self.subsampling = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.narrow = nn.Linear(width * halved(halved(mels)), width)
        self.dropout = nn.Dropout(dropout)
        self.layers = Conformer(width, heads, hidden, layers, kernel, dropout).conformer_layers
        self.add_heads(width, words, intents, halved(halved((samples - window) // HOP + 1)))

    def frames_of(self, pcm: Tensor, position: Tensor, /) -> tuple[Tensor, Tensor | None]:
        """Every frame counts."""
        x = self.subsampling(self.mel(pcm)[:, None])  # (B, D, mels / 4, frames)
        x = self.narrow(x.flatten(1, 2).transpose(1, 2))  # (B, frames, D)
        x = self.dropout(x + position).transpose(0, 1)  # (frames, B, D)
        for layer in self.layers:
            x = layer(x, None)
        frames: Tensor = x.transpose(0, 1)
        return frames, None
