"""`fusion train detector`: from labelled pictures to a bundled trunk with its card."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.codec import Profile
from fusion.errors import ModelError
from fusion.evaluation.detection import DetectionMetrics
from fusion.recording.pictures.image_folder import ImageFolder, LabelledImage
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME, drafted, write_card
from fusion.training.detection.architectures import class_names, named
from fusion.training.detection.checkpoint import read_checkpoint
from fusion.training.detection.export import export_detector
from fusion.training.detection.measure import measure_detector, plain
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.runs import start_name
from fusion.training.detection.sources import calibration_pictures, image_folder, split_stems, training_data
from fusion.training.detection.train import train_detector

RUN = "detector"
"""The folder of the training run."""
CALIBRATION_IMAGES = 60
MAY_LOSE = 0.005
"""How much mAP50 and mAP50-95 a new detector may lose against the bundled one, a variant against its float32 graph."""
_HELD = {"map50": "mAP50", "map50_95": "mAP50-95"}


def make_detector(
    task: Task, data: Path, out: Path, folder: Path, recipe: DetectorRecipe, *, test: Path, resume: bool = False
) -> None:
    """Train, freeze, measure on the test split and bundle; a worse detector never replaces a better one."""
    check_held(task, folder)
    started = time.monotonic()
    yaml = training_data(task, data, out, recipe.image_size)
    weights = train_detector(yaml, out / RUN, recipe, resume=resume)
    minutes = (time.monotonic() - started) / 60
    told = told_of(recipe, weights) | {
        "training_minutes": round(minutes, 1),
        "command": f"fusion train detector --task {task.name}",
    }
    bundle_detector(task, data, weights, folder, told, staging=out / "bundle", test=test, threads=recipe.threads)


def told_of(recipe: DetectorRecipe, weights: Path) -> dict[str, object]:
    """What a card tells of the recipe by which the checkpoint `weights` was trained: its architecture even where the
    recipe leaves that to a start, and of the start the name alone, for where it lay means nothing elsewhere.
    """
    return asdict(recipe) | {
        "architecture": named(read_checkpoint(weights)),
        "start": start_name(recipe.start),
    }


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
    """Export `weights` to `staging`, measure on `test`, pass the gate, and move it to `folder` with card and digests.

    `recipe` is what the card says of the training; without a split `test` what validates is measured. Raises
    `ModelError` when it is worse, on the same pictures, than what `folder` holds.
    """
    profile = export_detector(
        weights, task, calibration_pictures(image_folder(task, data), CALIBRATION_IMAGES), staging
    )
    held_out = image_folder(task, test)
    tested = "test" in held_out.known_splits().split(", ")
    stems = held_out.stems("test") if tested else split_stems(held_out)[1]
    shown = _Shown(held_out, stems)
    metrics = measure_detector(task, staging, shown.pictures(), threads=threads)
    held = _held_to(task, folder, shown, threads)
    _refuse_worse(metrics, held, folder)
    with drafted(folder) as draft:
        for name in (GRAPH_NAME, "profile.json", "profile.npz"):
            shutil.move(staging / name, draft / name)  # they may lie on two file systems
        write_card(
            draft,
            f"Detector of task {task.name}",
            {
                "Data": f"{task.source}; what validates is held out of training and calibration; measured on the "
                + ("test split, which is untouched" if tested else "validation split, for there is no test split"),
                "Recipe": dict(recipe),
                "Classes": {str(number): name for number, name in enumerate(class_names(read_checkpoint(weights)))},
                "Metrics": plain(metrics),
                "Held to": _best(metrics, held) | {"pictures_sha256": shown.sha256},
                "Fingerprint": {"profile_sha256": profile.sha256, "trunk_sha256": profile.trunk_sha256},
            },
        )
    return metrics


class _Shown:
    """The pictures that detectors are measured on, and `sha256` of what was last read of them."""

    def __init__(self, folder: ImageFolder, stems: Sequence[str]) -> None:
        self._folder, self._stems = folder, stems
        self.sha256 = ""

    def pictures(self) -> Iterator[LabelledImage]:
        """Every picture with its boxes."""
        digest = hashlib.sha256()
        for picture in map(self._folder.load, self._stems):
            digest.update(repr((picture.stem, picture.image.pixels.shape, picture.boxes)).encode())
            digest.update(picture.image.pixels.tobytes())
            yield picture
        self.sha256 = digest.hexdigest()


def check_held(task: Task, folder: Path) -> None:
    """Raise `ModelError` unless a detector of `task` could be held to what `folder` holds, before one is trained."""
    if (folder / "card.json").is_file():
        _read_card(folder / "card.json")
    if (folder / GRAPH_NAME).is_file() and (there := Profile.load(folder).task) != task.name:
        raise ModelError(f"{folder}: holds a detector of task {there!r}, not of {task.name!r}; give another folder")


def _held_to(task: Task, folder: Path, shown: _Shown, threads: int) -> dict[str, float]:
    """What a new detector is held to: what the one in `folder` finds on the same pictures, or what its card tells where
    its graph is gone; empty where there is neither.

    The card also tells the best that was ever bundled there, so that small losses do not add up; it counts if it was
    measured on the same pictures.
    """
    card = folder / "card.json"
    told = _read_card(card) if card.is_file() else {}
    if not (folder / GRAPH_NAME).is_file():
        return {name: float(told["Metrics"][name]) for name in _HELD if name in told.get("Metrics", {})}
    found = measure_detector(task, folder, shown.pictures(), threads=threads)
    best = told.get("Held to")
    best = best if isinstance(best, dict) and best.get("pictures_sha256") == shown.sha256 else {}
    return {name: max(getattr(found, name), float(best.get(name, 0.0))) for name in _HELD}


def _read_card(card: Path) -> dict[str, Any]:
    """A bundle's card. Raises `ModelError` when it is not one of a detector that was measured."""
    try:
        told: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        float(told["Metrics"]["map50"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{card}: tells no mAP50 of a detector to be held to; give another folder") from None
    return told


def _refuse_worse(metrics: DetectionMetrics, held: Mapping[str, float], folder: Path) -> None:
    for name, least in held.items():
        found = getattr(metrics, name)
        if not found >= least - MAY_LOSE:
            raise ModelError(
                f"{folder}: {_HELD[name]} {found:.3f} of the new detector is below the bundled {least:.3f}; kept that"
            )


def _best(metrics: DetectionMetrics, held: Mapping[str, float]) -> dict[str, object]:
    """The best figures so far."""
    return {name: round(max(getattr(metrics, name), held.get(name, 0.0)), 4) for name in _HELD}
