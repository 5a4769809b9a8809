"""What a fusion model is worth, head by head and for each set of sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fusion.evaluation.calibration import expected_calibration_error
from fusion.model.heads import FusedOutputs
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.fusion_data import PATTERNS, SceneSampler
from fusion.training.fusion_targets import IGNORED, Targets, assign

MAY_LOSE = 0.005
FEWER_MAY_LOSE = 0.02
"""Of figures that are counted over scenes, which are fewer than items, and of each share with fewer sensors."""
MAY_GROW_M = 0.02
_ERROR = "box centre error m"
ANCHORS = ("anchor recall", "anchor precision")
"""The figures that only scenes without a box have."""
HELD: Mapping[str, float] = {
    "label": MAY_LOSE,
    "condition": MAY_LOSE,
    "nothing": MAY_LOSE,
    "asked": MAY_LOSE,
    "intent": FEWER_MAY_LOSE,
    "asked object found": FEWER_MAY_LOSE,
    **dict.fromkeys(ANCHORS, FEWER_MAY_LOSE),
    _ERROR: MAY_GROW_M,
}
"""The figures that a model, or a variant of one, is held to, and what each may lose: `nothing` is telling nothing from
something. An error, in metres, loses by growing.
"""
_HIT_M = 1.0


class Answering(Protocol):
    """What is measured: a `FusionModel`, or its graphs (`fusion.training.graph_fusion`)."""

    @property
    def spec(self) -> FusionSpec:
        """What it is built from."""

    @property
    def anchors(self) -> Tensor:
        """Places (Q, 3) in metres of item queries without a box."""

    def eval(self) -> Any:
        """Evaluation mode."""

    def __call__(self, batch: dict[str, Tensor], /) -> tuple[Any, Tensor, Tensor]:
        """See `FusionModel.forward`."""


@dataclass(slots=True)
class FusionLog:
    """Counts over many scenes; `summary` gives the shares."""

    conditions: Sequence[str]
    _hits: dict[str, list[float]] = field(default_factory=dict)
    _told: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def add(self, outputs: FusedOutputs, targets: Targets, batch: dict[str, Tensor], classes: int) -> None:
        """One batch's outputs and what they should have been."""
        boxed, found = batch["box_valid"], targets.truth >= 0
        label = outputs.label_logits.argmax(-1)
        self._count("label", (label == targets.label)[boxed & found])
        self._count("nothing", (label == classes)[boxed & ~found])
        known = boxed & (targets.condition != IGNORED)
        right = outputs.condition_logits.argmax(-1) == targets.condition
        self._count("condition", right[known])
        self._tell("label", outputs.label_logits[boxed], targets.label[boxed])
        self._tell("condition", outputs.condition_logits[known], targets.condition[known])
        for index, name in enumerate(self.conditions):
            self._count(f"condition {name}", right[known & (targets.condition == index)])
        self._count("intent", outputs.intent_logits.argmax(-1) == batch["intent"])
        self._count("asked", ((outputs.asked_logits > 0) == (targets.asked > 0.5))[boxed & found])
        self._asked(outputs, targets, batch)
        error = (outputs.box3d[..., :2] - targets.box3d[..., :2]).norm(dim=-1)
        self._count("box centre error m", error[boxed & targets.has_box3d])
        self._anchors(outputs, batch, classes)

    def _asked(self, outputs: FusedOutputs, targets: Targets, batch: dict[str, Tensor]) -> None:
        for row in (batch["asked"] >= 0).nonzero()[:, 0].tolist():
            wanted = batch["box_valid"][row] & (targets.truth[row] == batch["asked"][row])
            if bool(wanted.any()):
                logits = outputs.asked_logits[row].masked_fill(~batch["box_valid"][row], -torch.inf)
                self._count("asked object found", wanted[logits.argmax()][None])

    def _anchors(self, outputs: FusedOutputs, batch: dict[str, Tensor], classes: int) -> None:
        """Objects that LiDAR alone finds, with no box at all: an object is found once, and by one guess, the nearest
        pairs first.
        """
        chosen = ~batch["box_valid"] & (outputs.label_logits.argmax(-1) != classes)
        for row in range(len(chosen)):
            if bool(batch["box_valid"][row].any()) or not bool(batch["lidar_available"][row]):
                continue
            wanted = batch["truth_clear"][row] & batch["truth_has_box3d"][row]
            truth, guess = batch["truth_box3d"][row, wanted, :2], outputs.box3d[row, chosen[row], :2]
            hits = _matched(torch.cdist(truth, guess))
            self._count("anchor recall", torch.arange(len(truth)) < hits)
            self._count("anchor precision", torch.arange(len(guess)) < hits)

    def _tell(self, name: str, logits: Tensor, truth: Tensor) -> None:
        self._told.setdefault(name, []).append((logits.softmax(-1), truth))

    def _count(self, name: str, values: Tensor) -> None:
        self._hits.setdefault(name, []).extend(values.float().tolist())

    def summary(self) -> dict[str, float]:
        """Mean of each figure (median for distances), the balanced condition accuracy and the number of items."""
        result = {
            name: round(float(np.median(values) if name.endswith(" m") else np.mean(values)), 4)
            for name, values in self._hits.items()
            if values
        }
        recalls = [result[f"condition {c}"] for c in self.conditions if f"condition {c}" in result]
        if recalls:
            result["condition balanced"] = round(float(np.mean(recalls)), 4)
        for name, parts in self._told.items():
            probabilities, truth = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
            if len(truth):
                result[f"{name} ECE"] = round(expected_calibration_error(probabilities, truth), 4)
        result["items"] = float(len(self._hits.get("label", ())))
        return result


def _matched(distance: Tensor) -> int:
    """How many objects are found, by a guess each, when so many metres, (objects, guesses), are between them."""
    count = 0
    while distance.numel() and float(distance.min()) < _HIT_M:
        row, column = divmod(int(distance.argmin()), distance.shape[1])
        distance = distance.clone()
        distance[row], distance[:, column] = torch.inf, torch.inf
        count += 1
    return count


@torch.inference_mode()
def evaluate_fusion(
    model: Answering,
    sampler: SceneSampler,
    *,
    patterns: Sequence[str] = tuple(PATTERNS),
    limit: int | None = None,
    ages: Sequence[float] = (0.0, 0.0, 0.0),
) -> dict[str, dict[str, float]]:
    """The figures of `model` on the scenes of `sampler`, by availability pattern; readings of camera, LiDAR and speech
    are said to be `ages` seconds old.
    """
    model.eval()
    classes = len(model.spec.classes)
    scenes = range(len(sampler.cache))[:limit]
    results = {}
    for pattern in patterns:
        log = FusionLog(model.spec.conditions)
        for start in range(0, len(scenes), 32):
            batch = sampler.gather([sampler.evaluation(i, PATTERNS[pattern], ages) for i in scenes[start : start + 32]])
            outputs, _, _ = model(batch)
            log.add(outputs, assign(batch, model.anchors, classes), batch, classes)
        results[pattern] = log.summary()
    return results


def lost(figure: str, before: float, after: float | None) -> float:
    """What `figure`, of `HELD`, has lost; one that is not there any more (None) has lost everything."""
    if figure == _ERROR:
        return float("inf") if after is None else after - before
    return before - (after or 0.0)


def better(figure: str, one: float, other: float) -> float:
    """The better of two values of `figure`, of `HELD`."""
    return min(one, other) if figure == _ERROR else max(one, other)


def table(results: dict[str, dict[str, float]]) -> str:
    """`evaluate_fusion`'s answer as lines of text."""
    names = list(dict.fromkeys(name for figures in results.values() for name in figures))
    width = max(map(len, names), default=0)
    lines = [" " * width + "".join(f"{pattern:>13}" for pattern in results)]
    for name in names:
        cells = (f"{results[p][name]:13.3f}" if name in results[p] else " " * 13 for p in results)
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
