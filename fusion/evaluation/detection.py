"""COCO detection metrics, computed by the maintained library on what the device's own stage returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO

from fusion.recording.pictures.image_folder import LabelledBox
from fusion.types import Box2D, Detection


@dataclass(frozen=True, slots=True)
class DetectionMetrics:
    """Average precision: at IoU 0.5, averaged over IoU 0.5..0.95, and AP50 a class by name."""

    images: int
    map50: float
    map50_95: float
    ap50: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class DetectionLog:
    """Collects truth and detections image by image, boxes in pixels of the same frame."""

    classes: Sequence[str]
    _images: int = 0
    _truth: list[dict[str, object]] = field(default_factory=list)
    _found: list[dict[str, object]] = field(default_factory=list)

    def add(self, truth: Iterable[LabelledBox], detections: Iterable[Detection]) -> None:
        """One image's truth and detections."""
        self._images += 1
        for labelled in truth:
            self._truth.append(
                {
                    "id": len(self._truth) + 1,
                    "image_id": self._images,
                    "category_id": labelled.class_index,
                    "bbox": _xywh(labelled.box),
                    "area": labelled.box.area,
                    "iscrowd": 0,
                }
            )
        for detection in detections:
            self._found.append(
                {
                    "image_id": self._images,
                    "category_id": self.classes.index(detection.label),
                    "bbox": _xywh(detection.box),
                    "score": detection.score,
                }
            )

    def metrics(self) -> DetectionMetrics:
        """The metrics of everything added so far."""
        if not self._truth or not self._found:
            return DetectionMetrics(self._images, 0.0, 0.0, dict.fromkeys(self.classes, 0.0))
        from faster_coco_eval import COCO, COCOeval_faster

        with redirect_stdout(StringIO()):
            truth = COCO(
                {
                    "images": [{"id": i + 1} for i in range(self._images)],
                    "categories": [{"id": i, "name": name} for i, name in enumerate(self.classes)],
                    "annotations": self._truth,
                }
            )
            evaluation = COCOeval_faster(truth, truth.loadRes(self._found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        precision = evaluation.eval["precision"]  # (IoU, recall, class, area, detections)
        ap50 = {}
        for index, name in enumerate(self.classes):
            values = precision[0, :, index, 0, -1]
            values = values[values > -1]
            ap50[name] = float(values.mean()) if values.size else float("nan")
        return DetectionMetrics(self._images, float(evaluation.stats[1]), float(evaluation.stats[0]), ap50)


def _xywh(box: Box2D) -> list[float]:
    return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]
