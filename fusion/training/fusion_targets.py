"""Which truth object each query answers for, and what its answers cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fusion.model.heads import FusedOutputs

IGNORED = -100
_ANCHOR_REACH_M = 3.5
_GRID = (0.0, 20.0, -12.0, 12.0)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """`truth` (B, Q) index of the claimed truth object or -1; `weight` (B, Q) of the label's loss; the answers:
    `label` (B, Q; C is "nothing"), `condition` (B, Q; IGNORED where unknown), `asked` (B, Q) float, `box3d` (B, Q, 8),
    `has_box3d` (B, Q).
    """

    truth: Tensor
    weight: Tensor
    label: Tensor
    condition: Tensor
    asked: Tensor
    box3d: Tensor
    has_box3d: Tensor


def assign(batch: Mapping[str, Tensor], anchors: Tensor, classes: int) -> Targets:
    """Detections keep the truth they overlap; a truth object nobody claims, that LiDAR could see, goes to the nearest
    free anchor; all others mean nothing.
    """
    truth, weight = _claim_anchors(batch, anchors)
    found = truth >= 0
    index = truth.clamp(min=0)
    label = torch.where(found, batch["truth_label"].gather(1, index), classes)
    condition = batch["truth_condition"].gather(1, index)
    condition = torch.where(found & (condition >= 0), condition, IGNORED)
    box3d = batch["truth_box3d"].gather(1, index[..., None].expand(-1, -1, 8))
    has_box3d = found & batch["truth_has_box3d"].gather(1, index)
    asked = (found & (truth == batch["asked"][:, None])).float()
    return Targets(truth, weight, label, condition, asked, box3d, has_box3d)


def _claim_anchors(batch: Mapping[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
    """`Targets.truth` and `weight`; objects choose one after another, all samples of the batch at once."""
    boxed, truth = batch["box_valid"], batch["truth_row"].clone()
    weight = torch.where(boxed, 1.0, 0.15)
    free = ~boxed & batch["lidar_available"][:, None]
    place = batch["truth_box3d"][..., :2]  # (B, T, 2)
    x, y = place.unbind(-1)
    inside = (_GRID[0] < x) & (x < _GRID[1]) & (_GRID[2] < y) & (y < _GRID[3])
    objects = torch.arange(place.shape[1], device=truth.device)
    claimed = (truth[:, :, None] == objects).any(1)  # (B, T)
    wanting = batch["truth_has_box3d"] & inside & ~claimed
    distance = (anchors[:, :2] - place[:, :, None]).norm(dim=-1)  # (B, T, Q)
    clear = batch["truth_clear"]
    for index in range(place.shape[1]):
        gap, nearest = torch.where(free, distance[:, index], torch.inf).min(1, keepdim=True)
        taken = torch.zeros_like(free).scatter(1, nearest, wanting[:, index, None] & (gap <= _ANCHOR_REACH_M))
        seen = clear[:, index, None]
        truth = torch.where(taken & seen, index, truth)
        weight = torch.where(taken, seen.float(), weight)
        free = free & ~taken
    return truth, weight


def fusion_losses(
    outputs: FusedOutputs, targets: Targets, batch: Mapping[str, Tensor], condition_weight: Tensor
) -> dict[str, Tensor]:
    """Mean losses of the fuser's heads, unweighted among themselves, by name."""
    label = functional.cross_entropy(outputs.label_logits.transpose(1, 2), targets.label, reduction="none")
    found = targets.truth >= 0
    condition = functional.cross_entropy(
        outputs.condition_logits.transpose(1, 2), targets.condition, condition_weight, ignore_index=IGNORED
    )
    asked = functional.binary_cross_entropy_with_logits(
        outputs.asked_logits, targets.asked, reduction="none", pos_weight=outputs.asked_logits.new_tensor(2.0)
    )
    box = functional.smooth_l1_loss(outputs.box3d, targets.box3d, beta=0.2, reduction="none").mean(-1)
    notable = (batch["truth_condition"] > 0) & batch["truth_clear"]
    alarm = functional.binary_cross_entropy_with_logits(outputs.alarm_logits, notable.any(1).float())
    seen = found & batch["box_valid"]
    return {
        "label": _mean(label, targets.weight),
        "condition": condition if bool((targets.condition >= 0).any()) else condition.new_zeros(()),
        "asked": _mean(asked, seen.float() + 0.1 * batch["box_valid"].float() * ~found),
        "box": _mean(box, targets.has_box3d.float()),
        "intent": functional.cross_entropy(outputs.intent_logits, batch["intent"]),
        "alarm": alarm,
    }


def speech_losses(words: Tensor, intent: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of the speech encoder's own heads over the samples that were heard."""
    heard = batch["speech_available"]
    if not bool(heard.any()):
        return {}
    return {
        "words": functional.binary_cross_entropy_with_logits(words[heard], batch["words"][heard]),
        "heard intent": functional.cross_entropy(intent[heard], batch["intent"][heard]),
    }


def spotting_loss(spotted: Tensor, said: Tensor) -> Tensor:
    """Loss of `spotted` (B, frames, words) logits against `said`: 1 during the word, 0 elsewhere, -1 not counted."""
    loss = functional.binary_cross_entropy_with_logits(
        spotted, said.clamp(min=0), reduction="none", pos_weight=torch.tensor(3.0)
    )
    return _mean(loss, (said >= 0).float())


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
