"""A sample's items as Foxglove draws them: boxes in the picture, boxes in space, and lines of a log."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.CubePrimitive_pb2 import CubePrimitive
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.KeyValuePair_pb2 import KeyValuePair
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.Point2_pb2 import Point2
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from foxglove_schemas_protobuf.SceneEntity_pb2 import SceneEntity
from foxglove_schemas_protobuf.SceneEntityDeletion_pb2 import SceneEntityDeletion
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from foxglove_schemas_protobuf.TextAnnotation_pb2 import TextAnnotation
from foxglove_schemas_protobuf.TextPrimitive_pb2 import TextPrimitive

from fusion.geometry import rigid, rotation_z
from fusion.recording.native.pose import pose, vector
from fusion.recording.native.schemas import stamp
from fusion.types import Box2D, Box3D, ItemState
from replay.export.rerun import verdict_words
from replay.report.wording import reason_words
from replay.results.answers import Outcome, outcome
from replay.results.records import DefectResult, ItemResult

_FONT_PX, _FONT_M = 12, 0.3
_CLASSES = ((0.9, 0.3, 0.2), (0.2, 0.6, 0.9), (0.9, 0.7, 0.1), (0.3, 0.8, 0.3), (0.7, 0.4, 0.9), (0.9, 0.5, 0.7))
_OUTCOMES = {Outcome.RIGHT: (0.27, 0.82, 0.51), Outcome.WRONG: (1.0, 0.43, 0.39), Outcome.UNKNOWN: (1.0, 0.76, 0.1)}
_LEVELS = {
    ItemState.PENDING: Log.WARNING,
    ItemState.DEDUPLICATED: Log.DEBUG,
    ItemState.SHED: Log.WARNING,
    ItemState.EXPIRED: Log.WARNING,
    ItemState.QUARANTINED: Log.ERROR,
}


def detections(items: Iterable[ItemResult], image_ns: int) -> Any:
    """Every item's box with class and score, in its class's colour; `image_ns` is the picture's own time."""
    return _annotations([(i.box, f"{i.label} {i.score:.2f}", _of_class(i.label)) for i in items], image_ns, 1.5)


def verdicts(items: Iterable[ItemResult], image_ns: int) -> Any:
    """The boxes of what was reviewed with the answers: green where all are true, red where not, else amber."""
    answered = [item for item in items if item.verdict]
    return _annotations([(i.box, verdict_words(i), _colour(_OUTCOMES[outcome(i)])) for i in answered], image_ns, 3.0)


def objects(items: Iterable[ItemResult], frame: str, time_ns: int) -> Any:
    """The fused boxes in space; a viewer is told to forget the sample before."""
    solid = [_entity(item, item.box3d, frame, time_ns) for item in items if item.box3d]
    forget = SceneEntityDeletion(timestamp=stamp(time_ns), type=SceneEntityDeletion.ALL)
    return SceneUpdate(deletions=[forget], entities=solid)


def log_line(item: ItemResult, time_ns: int) -> Any | None:
    """What came of an item: warnings are wrong answers and what got no answer. None of items that simply passed."""
    if item.state is ItemState.PASSED:
        return None
    why = "; ".join(reason_words(reason) for reason in item.reasons)
    if item.state is ItemState.REVIEWED:
        level = Log.WARNING if outcome(item) is Outcome.WRONG else Log.INFO
        told = verdict_words(item)
    else:
        level = _LEVELS[item.state]
        told = f"{item.label} {item.score:.2f} {item.state.value}"
        told += f" into {item.into}" if item.into else f" ({item.state_reason})" if item.state_reason else ""
    return Log(timestamp=stamp(time_ns), level=level, message=f"{told}. {why}".strip(), name=item.id)


def missed_line(defect: DefectResult, time_ns: int) -> Any | None:
    """An error for a defect that was missed, None for one that was not."""
    if not defect.fate.missed:
        return None
    told = f"missed ({defect.fate.value}): {defect.condition} {defect.label}".replace(":  ", ": ")
    return Log(timestamp=stamp(time_ns), level=Log.ERROR, message=told, name=f"defect {defect.name}")


def _annotations(boxes: Sequence[tuple[Box2D, str, Any]], image_ns: int, thickness: float) -> Any:
    time = stamp(image_ns)
    drawn = ImageAnnotations()
    for box, text, colour in boxes:
        corners = [(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2), (box.x1, box.y2)]
        drawn.points.append(
            PointsAnnotation(
                timestamp=time,
                type=PointsAnnotation.LINE_LOOP,
                points=[Point2(x=x, y=y) for x, y in corners],
                outline_color=colour,
                thickness=thickness,
            )
        )
        drawn.texts.append(
            TextAnnotation(
                timestamp=time,
                position=Point2(x=box.x1, y=box.y1),
                text=text,
                font_size=_FONT_PX,
                text_color=colour,
                background_color=Color(r=0, g=0, b=0, a=0.6),
            )
        )
    return drawn


def _entity(item: ItemResult, box: Box3D, frame: str, time_ns: int) -> Any:
    colour = _colour(_OUTCOMES[outcome(item)], 0.5) if item.verdict else _of_class(item.label, 0.3)
    centre = rigid(rotation_z(box.yaw), np.array([box.x, box.y, box.z]))
    above = rigid(np.eye(3), np.array([box.x, box.y, box.z + box.height / 2 + _FONT_M]))
    facts = {"item": item.id, "track": str(item.track), "label": item.label, "score": f"{item.score:.3f}"}
    facts |= {"state": item.state.value, "reasons": ", ".join(item.reasons)}
    facts |= {name: answer.option for name, answer in item.verdict.items()}
    return SceneEntity(
        timestamp=stamp(time_ns),
        frame_id=frame,
        id=item.id,
        metadata=[KeyValuePair(key=key, value=value) for key, value in facts.items()],
        cubes=[
            CubePrimitive(pose=pose(centre), size=vector(np.array([box.length, box.width, box.height])), color=colour)
        ],
        texts=[
            TextPrimitive(pose=pose(above), billboard=True, font_size=_FONT_M, color=_solid(colour), text=item.label)
        ],
    )


def _of_class(label: str, opacity: float = 1.0) -> Any:
    return _colour(_CLASSES[zlib.crc32(label.encode()) % len(_CLASSES)], opacity)


def _colour(rgb: tuple[float, float, float], opacity: float = 1.0) -> Any:
    return Color(r=rgb[0], g=rgb[1], b=rgb[2], a=opacity)


def _solid(colour: Any) -> Any:
    return Color(r=colour.r, g=colour.g, b=colour.b, a=1.0)
