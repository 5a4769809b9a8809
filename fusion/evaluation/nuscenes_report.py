"""The nuScenes metrics as values, as a table for people and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

AP_WEIGHT = 5
"""How often mAP counts in NDS, beside the five true-positive scores."""
_SHORT = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}
_UNITS = {"trans_err": "m", "scale_err": "1 - IoU", "orient_err": "rad", "vel_err": "m/s", "attr_err": "1 - accuracy"}


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """One class: boxes that took part, AP (0..1) and reached recall by distance, errors (NaN where not measured)."""

    name: str
    truths: int
    predictions: int
    ap: Mapping[float, float]
    max_recall: Mapping[float, float]
    errors: Mapping[str, float]

    @property
    def mean_ap(self) -> float:
        """AP averaged over the distances."""
        return float(np.mean(list(self.ap.values())))


@dataclass(frozen=True, slots=True)
class NuScenesMetrics:
    """All figures of a set of samples; `str()` is two markdown tables.

    `total` counts the boxes before the filters, which were applied if `filtered`.
    """

    samples: int
    filtered: bool
    total: Mapping[str, int]
    distances_m: tuple[float, ...]
    classes: tuple[ClassMetrics, ...]

    @property
    def mean_ap(self) -> float:
        """mAP, 0..1, over all classes, those without truth too (with AP 0)."""
        return float(np.mean([c.mean_ap for c in self.classes]))

    @property
    def tp_errors(self) -> dict[str, float]:
        """Each true-positive error averaged over the classes that have it."""
        return {error: float(np.nanmean([c.errors[error] for c in self.classes])) for error in _SHORT}

    @property
    def tp_scores(self) -> dict[str, float]:
        """1 - error, at least 0."""
        return {error: max(0.0, 1 - value) for error, value in self.tp_errors.items()}

    @property
    def nd_score(self) -> float:
        """NDS, 0..1: mAP five times and the five true-positive scores, averaged."""
        return (AP_WEIGHT * self.mean_ap + sum(self.tp_scores.values())) / (AP_WEIGHT + len(_SHORT))

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the devkit's names; None where an error is not measured."""
        return {
            "format": "nuscenes",
            "samples": self.samples,
            "filtered": self.filtered,
            "counts": {
                **self.total,
                "gt_evaluated": sum(c.truths for c in self.classes),
                "pred_evaluated": sum(c.predictions for c in self.classes),
            },
            "boxes_per_class": {c.name: {"gt": c.truths, "pred": c.predictions} for c in self.classes},
            "mean_ap": self.mean_ap,
            "nd_score": self.nd_score,
            "tp_errors": self.tp_errors,
            "tp_scores": self.tp_scores,
            "mean_dist_aps": {c.name: c.mean_ap for c in self.classes},
            "label_aps": {c.name: {str(d): ap for d, ap in c.ap.items()} for c in self.classes},
            "max_recall": {c.name: {str(d): recall for d, recall in c.max_recall.items()} for c in self.classes},
            "label_tp_errors": {
                c.name: {e: None if isnan(value) else value for e, value in c.errors.items()} for c in self.classes
            },
        }

    def __str__(self) -> str:
        errors = self.tp_errors
        lines = [
            f"nuScenes detection metrics, {self.samples} samples, "
            + ("boxes within class range, truth with points." if self.filtered else "no box filtered."),
            "",
            "| NDS | mAP | " + " | ".join(f"m{short} ({_UNITS[e]})" for e, short in _SHORT.items()) + " |",
            "|--:|--:|" + "--:|" * len(_SHORT),
            f"| {self.nd_score:.4f} | {self.mean_ap:.4f} | " + " | ".join(f"{errors[e]:.4f}" for e in _SHORT) + " |",
            "",
            "| class | truth | predictions | AP | "
            + " | ".join([*(f"AP@{d:g} m" for d in self.distances_m), *_SHORT.values()])
            + " |",
            "|---|" + "--:|" * (3 + len(self.distances_m) + len(_SHORT)),
        ]
        for c in self.classes:
            figures = [f"{c.mean_ap:.3f}", *(f"{c.ap[d]:.3f}" for d in self.distances_m)]
            figures += ["-" if isnan(c.errors[e]) else f"{c.errors[e]:.3f}" for e in _SHORT]
            lines.append(f"| {c.name} | {c.truths} | {c.predictions} | " + " | ".join(figures) + " |")
        return "\n".join(lines)
