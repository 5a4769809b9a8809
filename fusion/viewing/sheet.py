"""A seen moment as one picture that tells where it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2

from fusion.errors import RecordingError
from fusion.evaluation.box_drawing import ShownBox
from fusion.evaluation.caption import Caption, SensorNote
from fusion.evaluation.ground_view import WHOLE, PictureView
from fusion.evaluation.scene_picture import scene_picture
from fusion.recording.part_file import part_file
from fusion.task import Task
from fusion.types import TruthObject, UInt8Array
from fusion.viewing.seen import Part, SeenFrame, SeenObject

_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)
_ENCODING = {".png": (cv2.IMWRITE_PNG_COMPRESSION, 9), ".jpg": _JPEG, ".jpeg": _JPEG}
FORMATS = tuple(_ENCODING)
"""What a picture's file may be called."""
OTHER_FORMATS = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpe", ".pdf", ".ppm", ".svg", ".tif", ".tiff", ".webp"})
"""What pictures are called elsewhere, and no folder is meant by."""
_BEHIND_M = 2.0
"""Ground that is shown behind the ego frame at least, so that it can be seen where that is."""


def view_of(task: Task, *, dotted: bool = False) -> PictureView:
    """The ground that a task is about."""
    if task.area is None:
        return replace(WHOLE, dotted=dotted)
    (back, ahead), sides = task.area.x, task.area.y
    return PictureView(ahead, max(_BEHIND_M, -back), max(abs(side) for side in sides), dotted=dotted)


def sheet(frame: SeenFrame, task: Task, view: PictureView, name: str, *, truth: bool = False) -> UInt8Array:
    """RGB (H, W, 3) uint8 of a moment of the recording `name`; with `truth` what is known of it, too."""
    told = [_truth_box(one) for one in frame.truth or () if one.box3d is not None] if truth else []
    found = [_found_box(one) for one in frame.objects]
    return scene_picture(frame.shots, frame.points, told, found, task.classes, view, caption(frame, task, name, truth))


def caption(frame: SeenFrame, task: Task, name: str, truth: bool = False) -> Caption:
    """Title, sensors, and what was heard and asked for."""
    count = len(frame.objects)
    title = f"{name}  at {frame.at_s:.2f} s   {task.name}: {count} found"
    sensors = [SensorNote(one.text, one.part is Part.READ) for one in frame.sensors]
    lines = [line for line in (_heard(frame), _said(frame) if truth else "") if line]
    if truth and frame.truth is None:
        lines.append("no truth of this moment")
    return Caption(title, sensors, [*lines, *frame.notes])


def write_picture(picture: UInt8Array, path: Path) -> None:
    """Write `picture` (H, W, 3) RGB in the format `path` is called after, one of `FORMATS`.

    Raises `RecordingError` when the disk refuses.
    """
    suffix = path.suffix.lower()
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _ENCODING[suffix])
    if not done:
        raise RecordingError(f"{path}: the picture cannot be encoded")
    with part_file(path) as file:
        file.write(encoded.tobytes())


def _heard(frame: SeenFrame) -> str:
    if frame.heard is None:
        return ""
    asked = [f"{one.condition or ''} {one.label}".strip() for one in frame.objects if one.asked]
    wanted = f", asked for: {' and '.join(asked)}" if asked else ", nothing here asked for"
    return f"heard: {frame.heard.intent} {frame.heard.score:.2f}{wanted}"


def _said(frame: SeenFrame) -> str:
    return f'truly said: "{frame.said}"' if frame.said else ""


def _found_box(one: SeenObject) -> ShownBox:
    return ShownBox(one.box, one.label, one.score, one.velocity, one.condition, one.asked)


def _truth_box(one: TruthObject) -> ShownBox:
    assert one.box3d is not None
    return ShownBox(one.box3d, one.label, velocity=one.velocity, condition=one.condition, asked=False)
