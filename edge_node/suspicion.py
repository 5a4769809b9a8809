"""How likely an item is a defect, by what the device's own heads say of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fusion.review.layout import NOTHING
from fusion.types import Detection, FusedObject


def suspicion(
    detection: Detection, fused: FusedObject | None, conditions: Sequence[str], ordinary: Collection[str]
) -> float:
    """P(it is there) x P(its condition is none of `ordinary`), 0..1, by the fused heads or, without them, the detector.

    `conditions` name the detector's condition scores. Where nobody tells a condition, whatever is there counts as a
    defect: a task without conditions looks for defects alone.
    """
    if fused is not None and fused.label_scores:
        there = 1.0 - fused.label_scores.get(NOTHING, 0.0)
        told = fused.condition_scores
    else:
        there = float(detection.score)
        told = dict(zip(conditions, map(float, detection.condition_scores), strict=False))
    usual = sum(told.get(name, 0.0) for name in ordinary)
    return float(min(1.0, max(0.0, there * (1.0 - usual))))
