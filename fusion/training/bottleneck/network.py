"""The bottleneck as it learns: projection, quantiser, rate model and the decoder that tells what the head would miss.

Rounding is not differentiable. The rate is taken at codes with uniform noise of one step (Ballé et al., End-to-end
Optimized Image Compression, 2017), everything else at rounded codes with the gradient passed straight through, as the
reviewer will see them (Minnen & Singh, Channel-wise Autoregressive Entropy Models, 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.codec import RATES, sent_channels
from fusion.codec.steps import MAX_STEP_EXPONENT
from fusion.training.bottleneck.taps import Tap
from fusion.training.detection.trunk import CLIP

_COMPONENTS = 3
_LEAST_SHARE = 1e-6
_LEAST_LOG_SCALE = -4.0
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LevelCells:
    """The open cells of B items on one level, padded to N: `vectors` (B, N, C); `rows` and `bins` (B, N, side), what a
    cell weighs in the resampled map, 0 for padding; `open` (B, N) bool, false for padding.
    """

    vectors: Tensor
    rows: Tensor
    bins: Tensor
    open: Tensor


class LogisticMixture(nn.Module):
    """Bits a code costs, a mixture of logistics a channel (Salimans et al., PixelCNN++, 2017): smooth in the code, so
    that a gradient tells how it would cost less. The codec's own tables are counted once all is learnt.
    """

    def __init__(self, spread: Tensor) -> None:
        """`spread` (K,) is the codes' standard deviation a channel."""
        super().__init__()
        width = spread.clamp(min=0.3)[:, None]
        self.logits = nn.Parameter(torch.zeros(len(spread), _COMPONENTS))
        self.means = nn.Parameter(width * torch.linspace(-1, 1, _COMPONENTS))
        self.log_scales = nn.Parameter((0.5 * width).log().repeat(1, _COMPONENTS))

    def forward(self, codes: Tensor) -> Tensor:
        """(..., K) → bits (..., K)."""
        away = codes[..., None] - self.means
        steep = (-self.log_scales.clamp(min=_LEAST_LOG_SCALE)).exp()
        inside = torch.sigmoid((away + 0.5) * steep) - torch.sigmoid((away - 0.5) * steep)
        share: Tensor = (inside * self.logits.softmax(-1)).sum(-1)
        return -share.clamp(min=_LEAST_SHARE).log2()


class LevelBottleneck(nn.Module):
    """One level: vectors (..., C) → codes (..., K) and back. Begins as the tap's own projection."""

    reading: Tensor

    def __init__(self, tap: Tap, sample: Tensor) -> None:
        """`sample` (n, C) are vectors to begin decoder and rate model with."""
        super().__init__()
        channels, width = tap.weight.shape
        self.encoder = nn.Linear(width, channels)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.tensor(tap.weight))
            self.encoder.bias.copy_(torch.tensor(tap.bias))
            codes = self.quantised(sample)
        self.decoder = _regression(codes, sample)
        self.rate = LogisticMixture(codes.std(0))
        centred = sample - sample.mean(0)
        reading = torch.from_numpy(tap.reading)
        held = ((centred @ reading) * centred).sum(1).mean()
        self.register_buffer("reading", reading / held.clamp(min=1e-12), persistent=False)

    def quantised(self, vectors: Tensor, exponents: Tensor | None = None) -> Tensor:
        """Codes as the codec tells them: in steps of 2^exponent, `exponents` (...,) int64, 0 where it is None."""
        plain = self.encoder(vectors)
        told = plain.round().clamp(-CLIP, CLIP)
        if exponents is not None:
            step = (2.0**exponents)[..., None]
            coarse = told.sign() * ((told.abs() + (step / 2).floor() - 1) / step).floor() * step
            told = torch.where(step > 1, coarse.clamp(-CLIP, CLIP), told)
        result: Tensor = plain + (told - plain).detach()
        return result

    def bits(self, vectors: Tensor) -> Tensor:
        """What coding each code would cost, (..., K), at codes with noise."""
        plain = self.encoder(vectors)
        cost: Tensor = self.rate(plain.clamp(-CLIP, CLIP) + torch.rand_like(plain) - 0.5)
        return cost

    def lost(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """Share (...,) of what the detection head reads of the vectors that their codes do not tell: 1 is all of it."""
        error = vectors - self.decoder(codes)
        share: Tensor = ((error @ self.reading) * error).sum(-1)
        return share


class Bottleneck(nn.Module):
    """All levels, finest first. `steps` are the profile's, one a level: what the reviewer takes a code times."""

    def __init__(self, levels: list[LevelBottleneck], steps: list[float]) -> None:
        super().__init__()
        self.levels: Any = nn.ModuleList(levels)
        self.steps = steps
        counts = [level.encoder.out_features for level in levels]
        sent = [sent_channels(counts, rate.layers) for rate in RATES]
        self.sent = [torch.from_numpy(np.stack([masks[index] for masks in sent])) for index in range(len(levels))]
        self.exponents = torch.tensor([min(rate.step_exponent, MAX_STEP_EXPONENT) for rate in RATES])

    def maps(self, index: int, cells: LevelCells, rates: Tensor) -> tuple[Tensor, Tensor]:
        """The resampled map (B, side, side, K + 1) of level `index` as sent at `rates` (B,), places in `RATES`; and the
        codes at the finest rate (B, N, K).
        """
        level = self.levels[index]
        exponents = self.exponents[rates][:, None].expand(cells.open.shape)
        codes, coarse = level.quantised(cells.vectors), level.quantised(cells.vectors, exponents)
        told = coarse * self.sent[index][rates][:, None] * self.steps[index]
        told = torch.cat([told, torch.ones_like(told[..., :1])], -1) * cells.open[..., None]
        weights = cells.rows[..., :, None] * cells.bins[..., None, :]  # (B, N, side, side)
        side = weights.shape[-1]
        sampled = weights.flatten(2).transpose(1, 2) @ told
        return sampled.reshape(len(told), side, side, -1), codes


def _regression(codes: Tensor, vectors: Tensor) -> nn.Linear:
    """The linear map that tells `vectors` (n, C) from `codes` (n, K) best in the squares, with a little ridge."""
    mean_codes, mean_vectors = codes.mean(0), vectors.mean(0)
    x, y = codes - mean_codes, vectors - mean_vectors
    gram = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, x.T @ y).T
    layer = nn.Linear(codes.shape[1], vectors.shape[1])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(mean_vectors - weight @ mean_codes)
    return layer
