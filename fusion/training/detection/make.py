"""`fusion train detector`: from labelled pictures to a bundled trunk with its card."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fusion.errors import ModelError
from fusion.evaluation.detection import DetectionMetrics
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME, write_card, write_digests
from fusion.training.detection.export import export_detector
from fusion.training.detection.measure import measure_detector, plain
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.sources import calibration_pictures, image_folder, split_stems, training_data
from fusion.training.detection.train import train_detector

CALIBRATION_IMAGES = 60
MAY_LOSE = 0.005
"""How much mAP50 a new detector may lose against the bundled one, and a variant against its float32 graph."""


def make_detector(
    task: Task, data: Path, out: Path, folder: Path, recipe: DetectorRecipe, *, test: Path, resume: bool = False
) -> None:
    """Train, freeze, measure on the test split and bundle; a worse detector never replaces a better one."""
    started = time.monotonic()
    yaml = training_data(task, data, out, recipe.image_size)
    weights = train_detector(yaml, out / "detector", recipe, resume=resume)
    minutes = (time.monotonic() - started) / 60
    told = asdict(recipe) | {
        "training_minutes": round(minutes, 1),
        "command": f"fusion train detector --task {task.name}",
    }
    bundle_detector(task, data, weights, folder, told, staging=out / "bundle", test=test, threads=recipe.threads)


def bundle_detector(
    task: Task,
    data: Path,
    weights: Path,
    folder: Path,
    recipe: Mapping[str, object],
    *,
    staging: Path,
    test: Path,
    threads: int,
) -> DetectionMetrics:
    """Export `weights` to `staging`, measure on `test`, pass the gate, and move it to `folder` with its card.

    `recipe` is what the card says of the training; without a split `test` what validates is measured. Raises
    `ModelError` when it is worse than what `folder` holds.
    """
    profile = export_detector(
        weights, task, calibration_pictures(image_folder(task, data), CALIBRATION_IMAGES), staging
    )
    held_out = image_folder(task, test)
    tested = "test" in held_out.known_splits().split(", ")
    stems = held_out.stems("test") if tested else split_stems(held_out)[1]
    metrics = measure_detector(task, staging, map(held_out.load, stems), threads=threads)
    _gate(metrics, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (GRAPH_NAME, "profile.json", "profile.npz"):
        shutil.move(staging / name, folder / name)  # they may lie on two file systems
    write_card(
        folder,
        f"Detector of task {task.name}",
        {
            "Data": f"{task.source}; what validates is held out of training and calibration; measured on the "
            + ("test split, which is untouched" if tested else "validation split, for there is no test split"),
            "Recipe": dict(recipe),
            "Metrics": plain(metrics),
            "Fingerprint": {"profile_sha256": profile.sha256, "trunk_sha256": profile.trunk_sha256},
        },
    )
    write_digests(folder)
    return metrics


def _gate(metrics: DetectionMetrics, folder: Path) -> None:
    card = folder / "card.json"
    if not card.is_file():
        return
    try:
        shipped = float(json.loads(card.read_text(encoding="utf-8"))["Metrics"]["map50"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{card}: tells no mAP50 of a detector to be held to; give another folder") from None
    if metrics.map50 < shipped - MAY_LOSE:
        raise ModelError(
            f"{folder}: mAP50 {metrics.map50:.3f} of the new detector is below the bundled {shipped:.3f}; kept that"
        )
