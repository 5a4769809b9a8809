"""Counts what a network computes for one picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusion.training.detection.architectures import Network


@torch.inference_mode()
def multiply_adds(network: Network, image_size: int) -> int:
    """Multiply-adds of every convolution for one square picture of `image_size` pixels; attention's products and what
    is done once a value (norms, activations) are not counted.
    """
    found: list[int] = []

    def count(layer: Any, _inputs: Any, output: Tensor) -> None:
        found.append(output.numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    was_training = network.training
    network.eval()
    try:
        network(torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return sum(found)
