"""`fusion train detector`, `fusion evaluate detector`: from labelled pictures to a bundled trunk with its card."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import ModelError
from fusion.evaluation.detection import DetectionLog, DetectionMetrics
from fusion.perception import DetectorStage
from fusion.recording.pictures.image_folder import LabelledBox, LabelledImage
from fusion.task import Task
from fusion.training.bundle import export_detector, write_card, write_digests
from fusion.training.detector import DetectorRecipe, train_detector
from fusion.training.sources import image_folder, scene_data, tiled_data

CALIBRATION_IMAGES = 60
RECIPES = {
    "pcb": DetectorRecipe(image_size=320, epochs=6, flip_vertical=0.5, hue=0.0, scale=0.15),
    "yard": DetectorRecipe(image_size=640, epochs=12, learning_rate=0.001, rectangular=True),
}


def make_detector(
    task: Task,
    data: Path,
    out: Path,
    folder: Path,
    *,
    test: Path,
    epochs: int | None,
    threads: int,
    resume: bool,
    start: Path | None = None,
) -> None:
    """Train, freeze, measure on the test split and bundle; a worse detector never replaces a better one.

    `start` is a bundle whose detector training goes on from.
    """
    recipe = replace(RECIPES.get(task.name, DetectorRecipe()), threads=threads, start=str(start or ""))
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    prepare = scene_data if task.conditions else tiled_data
    started = time.monotonic()
    weights = train_detector(prepare(task, data, out / "data"), out / "detector", recipe, resume=resume)
    minutes = (time.monotonic() - started) / 60
    bundle_detector(task, data, weights, out / "bundle", folder, recipe, test=test, minutes=minutes)


def bundle_detector(
    task: Task,
    data: Path,
    weights: Path,
    staging: Path,
    folder: Path,
    recipe: DetectorRecipe,
    *,
    test: Path,
    minutes: float,
) -> None:
    """Export `weights` to `staging`, measure on `test`, pass the gate, and move it to `folder` with its card."""
    pictures = image_folder(task, data)
    train = "train" if task.conditions else "trainval"
    stems = pictures.stems(train)[:: max(1, len(pictures.stems(train)) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
    profile = export_detector(weights, task, [pictures.load(s).image.pixels for s in stems], staging)
    held_out = image_folder(task, test)
    metrics = measure_detector(task, staging, map(held_out.load, held_out.stems("test")), threads=recipe.threads)
    _gate(metrics, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("detector.onnx", "profile.json", "profile.npz"):
        (staging / name).replace(folder / name)
    write_card(
        folder,
        f"Detector of task {task.name}",
        {
            "Data": f"{task.source}; split {train}, every 20th picture held out for validation, test split untouched",
            "Recipe": asdict(recipe)
            | {"training_minutes": round(minutes, 1), "command": f"fusion train detector --task {task.name}"},
            "Metrics": _plain(metrics),
            "Fingerprint": {"profile_sha256": profile.sha256, "trunk_sha256": profile.trunk_sha256},
        },
    )
    write_digests(folder)


def measure_detector(
    task: Task, folder: Path, pictures: Iterable[LabelledImage], *, threads: int = 2, backend: str = "onnxruntime"
) -> DetectionMetrics:
    """The exported graph through the device's own stage, on labelled pictures."""
    profile = Profile.load(folder)
    engine = load_engine(folder / "detector.onnx", backend=backend, threads=threads)
    stage = DetectorStage(engine, task, profile, score_floor=0.005, max_detections=100)
    log = DetectionLog(task.classes)
    for picture in tqdm(pictures, desc="evaluate detector", unit="image"):
        result = stage.run(picture.image)
        placed = [LabelledBox(result.placement.from_frame(b.box), b.class_index) for b in picture.boxes]
        log.add(placed, result.detections)
    return log.metrics()


def _gate(metrics: DetectionMetrics, folder: Path) -> None:
    card = folder / "card.json"
    if not card.is_file():
        return
    shipped = float(json.loads(card.read_text(encoding="utf-8"))["Metrics"]["map50"])
    if metrics.map50 < shipped - 0.005:
        raise ModelError(
            f"{folder}: mAP50 {metrics.map50:.3f} of the new detector is below the bundled {shipped:.3f}; kept that"
        )


def _plain(metrics: DetectionMetrics) -> dict[str, object]:
    return {
        "images": metrics.images,
        "map50": round(metrics.map50, 4),
        "map50_95": round(metrics.map50_95, 4),
        **{f"ap50 {name}": round(value, 4) for name, value in metrics.ap50.items()},
    }
