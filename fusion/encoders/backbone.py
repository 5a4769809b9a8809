"""Camera tokens from pictures: a torchvision network's maps at strides 16 and 32."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fusion.encoders.camera import TwoLevelEncoder
from fusion.encoders.position import RayPosition
from fusion.encoders.registry import Positions
from fusion.errors import ConfigError, InputError, ModelError
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.rays import RAY_DEPTHS

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "swin_t",
    "swin_s",
    "swin_b",
)
"""ResNet (He et al., 2016), ConvNeXt (Liu et al., 2022), Swin Transformer v1 (Liu et al., 2021)."""
STRIDE = 32
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, red, green, blue, on the scale 0..1: what torchvision's weights were trained with."""
_HEAD = ("fc.", "classifier.", "head.", "norm.")
"""Where the names of the layers behind the last map begin, which are left out."""
_COUNTER = ".num_batches_tracked"
"""Ending of the names of BatchNorm's counters, which older files lack and evaluation does not read."""
_NAMED = 3


class BackboneEncoder(TwoLevelEncoder):
    """Pictures to tokens of stride 16.

    `name` is one of `BACKBONES`. `weights` is a torchvision state dict on disk, .safetensors or .pth, with or without
    its classifier; nothing is ever downloaded. Raises `ConfigError` for an unknown name and `ModelError` for weights
    that cannot be read or do not fit.
    """

    INPUTS: ClassVar = ("images", "rays")
    mean: Tensor
    spread: Tensor

    @classmethod
    def from_spec(cls, spec: FusionSpec, positions: Positions, /, *, network: str) -> Self:
        """The backbone `network` of a model of `spec`, with fresh weights; see `begin_with`."""
        return cls(network, spec.width, positions.ray)

    @staticmethod
    def example(spec: FusionSpec) -> dict[str, Tensor]:
        """Zeros of every input, batch 1."""
        rows, columns = spec.camera_map
        return {
            "images": torch.zeros(1, 3, spec.image_height, spec.image_width, dtype=torch.uint8),
            "rays": torch.zeros(1, rows * columns, 3 * len(RAY_DEPTHS)),
        }

    def __init__(self, name: str, width: int, position: RayPosition, *, weights: Path | None = None) -> None:
        stages = _stages(name, weights)
        super().__init__(stages.channels, 2 * stages.channels, width, position)
        self.name = name
        self.to_16, self.to_32, self.channels_last = stages.to_16, stages.to_32, stages.channels_last
        for label, values in (("mean", _MEAN), ("spread", _SPREAD)):
            self.register_buffer(label, 255 * torch.tensor(values)[:, None, None], persistent=False)  # (3, 1, 1)

    def begin_with(self, weights: Path) -> None:
        """Take the network's weights over from a file, as the constructor does. Raises `ModelError`."""
        stages = _stages(self.name, weights)
        self.to_16.load_state_dict(stages.to_16.state_dict())
        self.to_32.load_state_dict(stages.to_32.state_dict())

    def forward(self, images: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """`images` uint8 RGB (B, 3, H, W), H and W multiples of 32, `rays` float32 (B, N, 3 * depths) metres, N =
        H/16 * W/16 cells row by row → tokens (B, N, D) and positions (B, N, D). Raises `InputError`.
        """
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise InputError(f"images of {width}x{height} pixels; both sides must be multiples of {STRIDE}")
        cells = height * width // 256
        if rays.shape[1] != cells:
            raise InputError(f"rays of {rays.shape[1]} cells for images of {width}x{height} pixels, which have {cells}")
        fine = self.to_16((images.float() - self.mean) / self.spread)
        coarse = self.to_32(fine)
        if self.channels_last:
            fine, coarse = fine.permute(0, 3, 1, 2), coarse.permute(0, 3, 1, 2)  # (B, H/16, W/16, K) → (B, K, ...)
        return self.join(fine, coarse), self.position(rays)


class _Stages(NamedTuple):
    """A network in two parts: pictures → stride 16 of `channels`, stride 16 → stride 32 of twice as many."""

    to_16: nn.Sequential
    to_32: nn.Sequential
    channels: int
    channels_last: bool


def _stages(name: str, weights: Path | None) -> _Stages:
    if name not in BACKBONES:
        raise ConfigError(f"no camera backbone named {name!r}; there are {', '.join(BACKBONES)}")
    try:
        from torchvision import models  # takes seconds to import
    except ImportError:
        raise ModelError(f"{name}: torchvision is not installed; install fusion-stack[train]") from None
    network: Any = getattr(models, name)(weights=None)
    if weights is not None:
        _fill(network, weights)
    if name.startswith("resnet"):
        parts = dict(network.named_children())
        first = [parts[part] for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")]
        channels = network.fc.in_features // 2
        return _Stages(nn.Sequential(*first), nn.Sequential(parts["layer4"]), channels, channels_last=False)
    layers = list(network.features)  # stem, stage, (halving, stage) three times
    channels = (network.head if name.startswith("swin") else network.classifier[-1]).in_features // 2
    return _Stages(
        nn.Sequential(*layers[:6]), nn.Sequential(*layers[6:]), channels, channels_last=name.startswith("swin")
    )


def _fill(network: nn.Module, path: Path) -> None:
    given = {key: value for key, value in _read(path).items() if not key.startswith(_HEAD)}
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(_HEAD)}
    wrong = sorted(
        [f"{key} is missing" for key in own.keys() - given.keys() if not key.endswith(_COUNTER)]
        + [f"{key} is unknown" for key in given.keys() - own.keys()]
        + [
            f"{key} is {tuple(given[key].shape)} for {tuple(own[key].shape)}"
            for key in own.keys() & given.keys()
            if given[key].shape != own[key].shape
        ]
    )
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ModelError(
            f"{path}: not weights of {type(network).__name__} as it is built here: {', '.join(wrong[:_NAMED])}{more}"
        )
    network.load_state_dict(given, strict=False)


def _read(path: Path) -> Mapping[str, Tensor]:
    tensors: Any
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path}: cannot be read ({reason}); give a torchvision state dict") from None
    if not isinstance(tensors, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()
    ):
        raise ModelError(f"{path}: holds no state dict, a table of names and tensors; save network.state_dict()")
    return tensors
