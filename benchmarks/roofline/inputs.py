"""A model with random weights and random samples for it, cameras placed as on nuScenes' car."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid, rotation_z
from fusion.model.build import FusionModel, build_fusion
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.surround import InputSize, camera_view
from roofline.card import Card

AZIMUTHS_DEG = (0.0, -55.0, -110.0, 180.0, 110.0, 55.0)
"""Where nuScenes' cameras look, about."""
NORMALISATIONS = (nn.LayerNorm, nn.BatchNorm2d)
Batch = dict[str, Tensor]


def make_model(spec: FusionSpec, card: Card, weights: torch.dtype) -> FusionModel:
    """The model with random weights, stored as `weights` but for those of normalisations."""
    torch.manual_seed(7)
    model = build_fusion(spec).eval().to(card.device).requires_grad_(requires_grad=False)
    for module in model.modules():
        if not isinstance(module, NORMALISATIONS):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(weights)
    return model


def make_batch(spec: FusionSpec, device: torch.device, count: int) -> Batch:
    """Random pictures and sweeps of `count` samples; cameras look as those of nuScenes' car do."""
    cameras = spec.sensors["camera"]
    generator = torch.Generator(device).manual_seed(count)
    rays, views = zip(*(_view(spec, azimuth) for azimuth in AZIMUTHS_DEG[:cameras]), strict=True)
    picture = (count, cameras, 3, spec.image_height, spec.image_width)
    return {
        "images": torch.randint(0, 256, picture, generator=generator, device=device, dtype=torch.uint8),
        "rays": torch.tensor(np.stack(rays), device=device).expand(count, -1, -1, -1).contiguous(),
        "image_from_ego": torch.tensor(np.stack(views), device=device).expand(count, -1, -1, -1).contiguous(),
        "camera_available": torch.ones(count, cameras, dtype=torch.bool, device=device),
        "camera_age": torch.rand(count, cameras, generator=generator, device=device) * 0.1,
        "points": _sweep(spec, generator, device, count),
        "points_valid": torch.ones(count, spec.points, dtype=torch.bool, device=device),
        "lidar_available": torch.ones(count, dtype=torch.bool, device=device),
        "lidar_age": torch.zeros(count, device=device),
    }


def _view(spec: FusionSpec, azimuth_deg: float) -> tuple[Any, Any]:
    turn = rotation_z(np.deg2rad(azimuth_deg))
    place = rigid(turn, turn @ np.array([1.0, 0.0, 1.5])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(1600, 900, np.deg2rad(65.0), place)
    view = camera_view(camera, InputSize(spec.image_width, spec.image_height))
    return view.rays, view.image_from_ego.astype(np.float32)


def _sweep(spec: FusionSpec, generator: torch.Generator, device: torch.device, count: int) -> Tensor:
    """Points (count, N, 4): dense near, thin far, from the ground up to three metres."""
    drawn = torch.rand(count, spec.points, 4, generator=generator, device=device)
    reach, angle = 2.0 * 35.0 ** drawn[..., 0], 2 * torch.pi * drawn[..., 1]
    height = 3.0 * drawn[..., 2] ** 3 - 0.2
    return torch.stack([reach * angle.cos(), reach * angle.sin(), height, drawn[..., 3]], -1)


def without_camera(batch: Batch, every: int) -> Batch:
    """`batch` with the first camera absent in every `every`-th sample."""
    there = batch["camera_available"].clone()
    there[::every, 0] = False
    return {**batch, "camera_available": there}
