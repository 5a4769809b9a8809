"""Takes the channels that matter least out of a detector: only channels that live and die inside one block.

A channel is prunable when one convolution makes it and one other reads it: the hidden channels of the bottlenecks in
C2f and C3k2 blocks, of the feed-forward part of attention blocks, and between the layers of a branch of the head. No
sum, concatenation or tap sees them, so nothing else in the network changes. What a channel matters is the scale of its
batch norm (Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017) times the norm of
the weights that read it, both relative to their layer's mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import ConfigError, ModelError
from fusion.training.detection.architectures import Network

MULTIPLE = 8
"""Layers keep a multiple of so many channels: that is what vector units and tensor cores take at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Channels made by `maker` (an ultralytics `Conv`: convolution, batch norm, activation), read only by `reader`."""

    name: str
    maker: Any
    reader: Any

    @property
    def channels(self) -> int:
        """How many there are."""
        return int(self.maker.conv.out_channels)

    def importance(self) -> Tensor:
        """What each channel matters, (channels,), 1 on average."""
        scale = self.maker.bn.weight.detach().abs()
        read = _convolution(self.reader).weight.detach().flatten(2).pow(2).sum((0, 2)).sqrt()
        matters: Tensor = (scale / scale.mean().clamp(min=1e-12)) * (read / read.mean().clamp(min=1e-12))
        return matters


def links(network: Network) -> list[Link]:
    """Every link of a network with batch norms, in its own order. Raises `ModelError` when they were folded away."""
    from ultralytics.nn.modules.block import Bottleneck, PSABlock

    if network.is_fused():
        raise ModelError("the network's batch norms were folded away: nothing tells which channels matter")
    found = []
    for name, module in network.named_modules():
        if isinstance(module, Bottleneck):
            found.append(Link(name, module.cv1, module.cv2))
        elif isinstance(module, PSABlock):
            found.append(Link(f"{name}.ffn", module.ffn[0], module.ffn[1]))
    found += _head_links(network.model[-1])
    return [link for link in found if _plain(link)]


def _head_links(head: Any) -> Iterator[Link]:
    for branch in ("cv2", "cv3"):
        for level, layers in enumerate(getattr(head, branch)):
            for i in range(len(layers) - 1):
                yield Link(f"head.{branch}.{level}.{i}", layers[i], layers[i + 1])


def _plain(link: Link) -> bool:
    """Whether both ends are dense convolutions; depthwise ones tie channels together."""
    if not hasattr(link.maker, "bn"):
        return False
    reader = _convolution(link.reader)
    return isinstance(reader, nn.Conv2d) and link.maker.conv.groups == 1 and reader.groups == 1


def _convolution(layer: Any) -> Any:
    return getattr(layer, "conv", layer)


def check_share(share: float) -> None:
    """Raise `ConfigError` when `share` is no part of the channels that leaves some."""
    if not 0 < share < 1:
        raise ConfigError(f"--share {share}: give the part of the channels to be taken out, between 0 and 1")


def choose(found: Sequence[Link], share: float) -> list[Tensor]:
    """Which channels of each link stay, as sorted indices: of all channels together the least important `share` goes.

    Each link keeps at least `MULTIPLE` channels, and rounds what it keeps up to a multiple. Raises `ConfigError` for a
    share outside 0..1.
    """
    check_share(share)
    importance = [link.importance() for link in found]
    limit = torch.cat(importance).sort().values[int(share * sum(map(len, importance)))]
    kept = []
    for values in importance:
        count = int((values >= limit).sum())
        count = min(len(values), max(MULTIPLE, -(-count // MULTIPLE) * MULTIPLE))
        kept.append(values.topk(count).indices.sort().values)
    return kept


@torch.no_grad()
def mask(found: Sequence[Link], kept: Sequence[Tensor]) -> None:
    """Silence every other channel where it is: its batch norm gives 0, and so does what follows it."""
    for link, stay in zip(found, kept, strict=True):
        gone = torch.ones(link.channels, dtype=torch.bool)
        gone[stay] = False
        link.maker.bn.weight[gone] = 0.0
        link.maker.bn.bias[gone] = 0.0


@torch.no_grad()
def cut(found: Sequence[Link], kept: Sequence[Tensor]) -> None:
    """Take every other channel out. The network then computes what the masked one does, with fewer numbers."""
    for link, stay in zip(found, kept, strict=True):
        norm, reader = link.maker.bn, _convolution(link.reader)
        link.maker.conv.weight = nn.Parameter(link.maker.conv.weight[stay].clone())
        link.maker.conv.out_channels = norm.num_features = len(stay)
        for part in ("weight", "bias"):
            setattr(norm, part, nn.Parameter(getattr(norm, part)[stay].clone()))
        for part in ("running_mean", "running_var"):
            setattr(norm, part, getattr(norm, part)[stay].clone())
        reader.weight = nn.Parameter(reader.weight[:, stay].clone())
        reader.in_channels = len(stay)


def prune(network: Network, share: float) -> dict[str, tuple[int, int]]:
    """Cut `network` in place; returns how many channels each link had and has."""
    found = links(network)
    kept = choose(found, share)
    counts = {link.name: (link.channels, len(stay)) for link, stay in zip(found, kept, strict=True)}
    cut(found, kept)
    return counts
