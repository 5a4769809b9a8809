"""Camera tokens from feature maps at strides 16 and 32; the trunk's int8 neck maps are one source of such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.position import RayPosition
from fusion.encoders.registry import Positions
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.rays import RAY_DEPTHS


class TwoLevelEncoder(nn.Module):
    """Joins maps of stride 16 and 32, of `fine` and `coarse` channels, at stride 16 and mixes neighbours."""

    def __init__(self, fine: int, coarse: int, width: int, position: RayPosition) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 1)
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.norm = nn.LayerNorm(width)
        self.position = position

    def join(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """`fine` (B, K, H/16, W/16) and `coarse` (B, K', H/32, W/32) float → tokens (B, N, D), row by row."""
        far = functional.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        x = functional.gelu(self.fine(fine) + far)
        x = x + self.mix(functional.gelu(self.near(x)))
        tokens: Tensor = self.norm(x.flatten(2).transpose(1, 2))  # (B, N, D)
        return tokens


class CameraEncoder(TwoLevelEncoder):
    """Dequantises the trunk's maps and joins them.

    `steps` holds the profile's step a channel for both levels; `gains` what the dequantised values are
    divided by, one number a level, so that the layers see values near one.
    """

    INPUTS: ClassVar = ("p4", "p5", "rays")
    scale4: Tensor
    scale5: Tensor

    @classmethod
    def from_spec(cls, spec: FusionSpec, positions: Positions, /) -> Self:
        """The encoder of the trunk that `spec` names."""
        return cls(spec.steps, spec.gains, spec.width, positions.ray)

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        rows, columns = spec.camera_map
        return {
            "p4": torch.zeros(1, len(spec.steps[0]), rows, columns, dtype=torch.int8),
            "p5": torch.zeros(1, len(spec.steps[1]), rows // 2, columns // 2, dtype=torch.int8),
            "rays": torch.zeros(1, rows * columns, 3 * len(RAY_DEPTHS)),
        }

    def __init__(
        self,
        steps: tuple[Sequence[float], Sequence[float]],
        gains: tuple[float, float],
        width: int,
        position: RayPosition,
    ) -> None:
        super().__init__(len(steps[0]), len(steps[1]), width, position)
        for name, step, gain in zip(("scale4", "scale5"), steps, gains, strict=True):
            self.register_buffer(name, torch.tensor(step, dtype=torch.float32)[:, None, None] / gain)  # (K, 1, 1)

    def forward(self, p4: Tensor, p5: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """`p4` int8 (B, K, H/16, W/16), `p5` int8 (B, K, H/32, W/32), `rays` float32 (B, N, 3 * depths) metres,
        N = H/16 * W/16 cells row by row → tokens (B, N, D) and positions (B, N, D).
        """
        return self.join(p4.float() * self.scale4, p5.float() * self.scale5), self.position(rays)
