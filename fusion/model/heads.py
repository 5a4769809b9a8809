"""What is read off the fused item tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.encoders.tokens import Tokens
from fusion.model.items import Items
from fusion.model.memory import Provenance
from fusion.model.queries import Queries
from fusion.model.referring import Referring


class FusedOutputs(NamedTuple):
    """The fuser's answer about items; field names are the exported graph's output names.

    `item_tokens` (B, Q, D), `latents` (B, L, D), `label_logits` (B, Q, C + 1; the last is "nothing"),
    `condition_logits` (B, Q, K), `asked_logits` (B, Q), `box3d` (B, Q, 8): x y z in metres in the ego frame, log
    length, width and height, sine and cosine of the yaw; `intent_logits` (B, I); `alarm_logits` (B,): whether
    anything in the scene is not ok, read off the first latent, the screening vector. `sensor_present` (B, S) bool and
    `sensor_age` (B, S) seconds say what the answer was made from.
    """

    item_tokens: Tensor
    latents: Tensor
    label_logits: Tensor
    condition_logits: Tensor
    asked_logits: Tensor
    box3d: Tensor
    intent_logits: Tensor
    alarm_logits: Tensor
    sensor_present: Tensor
    sensor_age: Tensor


class ItemHeads(nn.Module):
    """One small network a question; `referring` adds what an utterance, composed, says about each item."""

    def __init__(
        self,
        width: int,
        classes: int,
        conditions: int,
        intents: int,
        *,
        told_conditions: bool = False,
        referring: Referring | None = None,
    ) -> None:
        super().__init__()
        self.label = nn.Linear(width, classes + 1)
        self.detector_weight = nn.Parameter(torch.tensor(0.5))
        self.condition = two_layers(width, conditions)
        if told_conditions:
            self.detector_condition_weight = nn.Parameter(torch.tensor(0.5))
        self.asked = two_layers(width, 1)
        self.box = two_layers(width, 8)
        self.intent = nn.Linear(width, intents)
        self.alarm = nn.Linear(width, 1)
        self.referring = referring

    def forward(
        self,
        x: Tensor,
        latents: Tensor,
        queries: Queries,
        items: Items,
        tokens: Mapping[str, Tokens],
        provenance: Provenance,
    ) -> FusedOutputs:
        """`x` (B, Q, D), `latents` (B, L, D); boxes are relative to the queries' places, labels and conditions weigh in
        what the detector told.
        """
        prior = self.detector_weight * functional.pad(torch.logit(items.class_scores.clamp(0.01, 0.99)) + 4.6, (0, 1))
        box = self.box(x)
        answer = FusedOutputs(
            x,
            latents,
            self.label(x) + prior,
            self._condition(x, items.condition_scores),
            self.asked(x)[..., 0],
            torch.cat([queries.places + box[..., :3], box[..., 3:]], -1),
            self.intent(latents[:, 1]),
            self.alarm(latents[:, 0])[..., 0],
            *provenance,
        )
        return self._referred(answer, tokens.get("speech"), queries.places)

    def _condition(self, x: Tensor, told: Tensor | None) -> Tensor:
        condition: Tensor = self.condition(x)
        if told is None:
            return condition
        anything = told.sum(-1, keepdim=True)  # 0 where the detector told nothing
        return condition + self.detector_condition_weight * torch.log(told.clamp(min=0.01)) * anything

    def _referred(self, answer: FusedOutputs, speech: Tokens | None, places: Tensor) -> FusedOutputs:
        """What was said counts towards being asked for; labels and conditions are taken as they were found."""
        if self.referring is None or speech is None:
            return answer
        found = (answer.label_logits.detach().softmax(-1), answer.condition_logits.detach().softmax(-1))
        said = self.referring(speech.features[:, 0], places, *found) * speech.any_valid()[:, 0]
        return answer._replace(asked_logits=answer.asked_logits + said)


def two_layers(width: int, outputs: int) -> nn.Sequential:
    """A head with one hidden layer."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))
