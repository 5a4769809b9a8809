"""Whether an engine answers as the reference does: the same things in the same places, and the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.perception.detector import DetectorResult
from fusion.types import Detection

CLEAR = 0.3
"""Detections below this score are on the edge of being told at all, and are not compared."""
LEAST_IOU = 0.9
LEAST_MATCHED = 0.98
LEAST_EQUAL_CODES = 0.98
TOLERANCES = (
    f"agrees: {LEAST_MATCHED:.0%} of the detections from a score of {CLEAR:g} on are matched by class and an IoU of "
    f"{LEAST_IOU:g}, and {LEAST_EQUAL_CODES:.0%} of the maps' codes are equal"
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares in 0..1: of clear `detections` of either side that the other has too, and of equal codes."""

    matched: float
    codes: float
    detections: int

    @property
    def fits(self) -> bool:
        """Whether both are within tolerance."""
        return self.matched >= LEAST_MATCHED and self.codes >= LEAST_EQUAL_CODES

    @property
    def reason(self) -> str:
        """What is not, in words; empty when it fits."""
        said = []
        if self.matched < LEAST_MATCHED:
            said.append(f"{self.matched:.1%} of detections matched")
        if self.codes < LEAST_EQUAL_CODES:
            said.append(f"{self.codes:.1%} of codes equal")
        return ", ".join(said)


def compare(reference: Sequence[DetectorResult], other: Sequence[DetectorResult]) -> Agreement:
    """Compare answers about the same pictures, in the same order. Without a clear detection, all are matched."""
    matched = total = equal = codes = 0
    for mine, theirs in zip(reference, other, strict=True):
        for some, rest in ((mine, theirs), (theirs, mine)):
            clear = [found for found in some.detections if found.score >= CLEAR]
            matched += sum(_has(rest.detections, found) for found in clear)
            total += len(clear)
        for left, right in zip(mine.maps, theirs.maps, strict=True):
            equal += int(np.count_nonzero(left == right))
            codes += left.size
    return Agreement(matched / total if total else 1.0, equal / codes if codes else 1.0, total)


def _has(detections: Sequence[Detection], wanted: Detection) -> bool:
    return any(found.label == wanted.label and found.box.iou(wanted.box) >= LEAST_IOU for found in detections)
