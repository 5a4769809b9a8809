"""Multiply-adds are those of the convolutions, counted by hand here."""

import torch
from torch import nn

from fusion.training.detection.architectures import new_network
from fusion.training.detection.operations import multiply_adds


def test_they_are_outputs_times_what_each_is_made_of() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 16 x 16 x 8 outputs of 3 x 3 x 3 products
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),  # depthwise: 5 x 5 products
        nn.Conv2d(8, 4, 1),
    ).train()
    before = network[1].running_mean.clone()
    assert multiply_adds(network, 32) == 16 * 16 * (8 * 27 + 8 * 25 + 4 * 8)
    assert network.training
    assert torch.equal(network[1].running_mean, before)
    assert not any(module._forward_hooks for module in network.modules())


def test_they_grow_with_the_picture_and_the_network() -> None:
    nano, small = new_network("yolov8n", 2), new_network("yolov8s", 2)
    assert multiply_adds(nano, 128) == 4 * multiply_adds(nano, 64)
    assert multiply_adds(small, 64) > 3 * multiply_adds(nano, 64)
    published = 8.7e9 / 2  # GFLOPs of yolov8n at 640 pixels and 80 classes, by ultralytics, two a multiply-add
    assert abs(multiply_adds(new_network("yolov8n", 80), 640) / published - 1) < 0.03
