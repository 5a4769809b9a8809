"""What is read off the fused tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedOutputs(NamedTuple):
    """The fuser's answer; field names are the exported graph's output names.

    `item_tokens` (B, Q, D), `latents` (B, L, D), `label_logits` (B, Q, C + 1; the last is "nothing"),
    `condition_logits` (B, Q, K), `asked_logits` (B, Q), `box3d` (B, Q, 8): x y z in metres in the ego frame, log
    length, width and height, sine and cosine of the yaw; `intent_logits` (B, I); `alarm_logits` (B,): whether
    anything in the scene is not ok, read off the first latent, the screening vector.
    """

    item_tokens: Tensor
    latents: Tensor
    label_logits: Tensor
    condition_logits: Tensor
    asked_logits: Tensor
    box3d: Tensor
    intent_logits: Tensor
    alarm_logits: Tensor


class FusionHeads(nn.Module):
    """One small network a question."""

    def __init__(
        self, width: int, classes: int, conditions: int, intents: int, *, told_conditions: bool = False
    ) -> None:
        super().__init__()
        self.label = nn.Linear(width, classes + 1)
        self.detector_weight = nn.Parameter(torch.tensor(0.5))
        self.condition = _two_layers(width, conditions)
        if told_conditions:
            self.detector_condition_weight = nn.Parameter(torch.tensor(0.5))
        self.asked = _two_layers(width, 1)
        self.box = _two_layers(width, 8)
        self.intent = nn.Linear(width, intents)
        self.alarm = nn.Linear(width, 1)

    def forward(
        self,
        items: Tensor,
        latents: Tensor,
        place: Tensor,
        class_scores: Tensor,
        condition_scores: Tensor | None = None,
    ) -> FusedOutputs:
        """`items` (B, Q, D), `latents` (B, L, D), `place` (B, Q, 3) metres: what `box3d` is relative to;
        `class_scores` (B, Q, C) and `condition_scores` (B, Q, K) the detector's, zeros where there is no box; the
        latter None where it does not tell them.
        """
        prior = self.detector_weight * functional.pad(torch.logit(class_scores.clamp(0.01, 0.99)) + 4.6, (0, 1))
        box = self.box(items)
        condition = self.condition(items)
        if condition_scores is not None:
            told = condition_scores.sum(-1, keepdim=True)  # 0 where the detector told nothing
            condition = condition + self.detector_condition_weight * torch.log(condition_scores.clamp(min=0.01)) * told
        return FusedOutputs(
            items,
            latents,
            self.label(items) + prior,
            condition,
            self.asked(items)[..., 0],
            torch.cat([place + box[..., :3], box[..., 3:]], -1),
            self.intent(latents[:, 1]),
            self.alarm(latents[:, 0])[..., 0],
        )


def _two_layers(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))
