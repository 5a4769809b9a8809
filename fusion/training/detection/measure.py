"""Measures an exported detector through the device's own stage, whichever engine runs it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import Engine, load_engine
from fusion.evaluation.detection import DetectionLog, DetectionMetrics
from fusion.perception import DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.recording.pictures.image_folder import LabelledBox, LabelledImage
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME

_SCORE_FLOOR, _MOST = 0.005, 100
"""Average precision needs boxes of low scores, too; COCO counts up to 100 a picture."""


def measure_detector(
    task: Task, folder: Path, pictures: Iterable[LabelledImage], *, threads: int = 2, backend: str = "onnxruntime"
) -> DetectionMetrics:
    """The graph of the bundle in `folder` on labelled pictures."""
    precision = detector_precision(folder)
    engine = load_engine(folder / GRAPH_NAME, backend=backend, threads=threads, precision=precision)
    return measure_engine(task, engine, Profile.load(folder), pictures)


def measure_engine(
    task: Task, engine: Engine, profile: Profile, pictures: Iterable[LabelledImage], *, what: str = "evaluate detector"
) -> DetectionMetrics:
    """A loaded trunk on labelled pictures; `what` names the progress bar."""
    stage = DetectorStage(engine, task, profile, score_floor=_SCORE_FLOOR, max_detections=_MOST)
    log = DetectionLog(task.classes)
    for picture in tqdm(pictures, desc=what, unit="image"):
        result = stage.run(picture.image)
        placed = [LabelledBox(result.placement.from_frame(b.box), b.class_index) for b in picture.boxes]
        log.add(placed, result.detections)
    return log.metrics()


def plain(metrics: DetectionMetrics) -> dict[str, object]:
    """The figures as a card tells them."""
    return {
        "images": metrics.images,
        "map50": round(metrics.map50, 4),
        "map50_95": round(metrics.map50_95, 4),
        **{f"ap50 {name}": round(value, 4) for name, value in metrics.ap50.items()},
    }
