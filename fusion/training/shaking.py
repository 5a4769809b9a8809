"""What is done to a training batch so that a model does not rely on a perfect rig: in place, a batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

_TURN_RAD = 0.006
_RANGE_M = 0.01
_OWN_POINT_M = 0.006
_DRIFT_M_S = 0.5
_LOST_POINTS = (0.0, 0.1, 0.4)
_UNSURE = 0.3
_DEPTH_CHANNEL, _INTENSITY_CHANNEL = 6, 3


def shake(batch: dict[str, Tensor], generator: torch.Generator) -> None:
    """Calibration jitter, motion of a stale sweep, range noise, dropped points, an unsure detector.

    `batch` is what `SceneSampler.gather` makes; `generator` is of the batch's device.
    """
    _turn_rays(batch, generator)
    points = batch["points"]
    drift = _normal((len(points),), points, generator) * _DRIFT_M_S * batch["lidar_age"]
    points[..., :3] += _RANGE_M * _normal(points[..., :3].shape, points, generator)
    points[..., 0] += drift[:, None]
    _shake_items(batch, generator)


def _turn_rays(batch: dict[str, Tensor], generator: torch.Generator) -> None:
    rays = batch["rays"]
    yaw, pitch = _TURN_RAD * _normal((2, len(rays)), rays, generator)
    turn = rotation_z(yaw) @ rotation_y(pitch)  # (B, 3, 3)
    for name in ("rays", "box_rays"):
        values = batch[name]
        turned = values.reshape(len(values), -1, 3) @ turn.mT
        batch[name] = turned.reshape(values.shape)


def _shake_items(batch: dict[str, Tensor], generator: torch.Generator) -> None:
    own, valid, scores = batch["item_points"], batch["item_points_valid"], batch["class_scores"]
    shares = torch.tensor(_LOST_POINTS, device=own.device)
    lost = shares[torch.randint(len(shares), (len(own), 1, 1), generator=generator, device=own.device)]
    batch["item_points_valid"] = valid & (_uniform(valid.shape, own, generator) >= lost)
    noise = _OWN_POINT_M * _normal((*own.shape[:-1], 3), own, generator)
    own[..., :3] += noise
    if own.shape[-1] > _DEPTH_CHANNEL:
        own[..., _DEPTH_CHANNEL] += noise[..., 0]
    brightness = 0.8 + 0.4 * _uniform((len(own), 1, 1), own, generator)
    own[..., _INTENSITY_CHANNEL] *= brightness
    unsure = _uniform((len(scores), 1, 1), scores, generator) < _UNSURE
    fade = 0.5 + 0.5 * _uniform((*scores.shape[:2], 1), scores, generator)
    batch["class_scores"] = torch.where(unsure, scores * fade, scores)


def rotation_z(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) by `angle` (B,) radians about z."""
    return _rotation(angle, (0, 1, 2))


def rotation_y(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) by `angle` (B,) radians about y."""
    return _rotation(angle, (2, 0, 1))


def _rotation(angle: Tensor, axes: tuple[int, int, int]) -> Tensor:
    """From the first of `axes` to the second, about the third."""
    first, second, axis = axes
    matrix = angle.new_zeros(len(angle), 3, 3)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, second, first], matrix[:, first, second] = angle.sin(), -angle.sin()
    matrix[:, axis, axis] = 1
    return matrix


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device)
