"""COCO's instances file (https://cocodataset.org/#format-data): pictures, categories, boxes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fusion.errors import RecordingError
from fusion.recording.driving.json_node import Node
from fusion.recording.pictures.class_names import class_name
from fusion.types import Box2D

PREFIX = "instances"


@dataclass(frozen=True, slots=True)
class CocoBox:
    """A box in pixels of its picture. `crowd` marks a region of many that were not told apart."""

    box: Box2D
    label: str
    crowd: bool


@dataclass(frozen=True, slots=True)
class CocoPicture:
    """One picture the file lists: its name, its size in pixels (0: not told), and its boxes in the file's order.

    `empty` boxes without an area were left out.
    """

    name: str
    width: int
    height: int
    boxes: tuple[CocoBox, ...]
    empty: int


def instance_files(folder: Path) -> dict[str, Path]:
    """The files `instances.json` and `instances_SPLIT.json` in `folder` or its `annotations/`, by split."""
    found = [*folder.glob(f"annotations/{PREFIX}*.json"), *folder.glob(f"{PREFIX}*.json")]
    return {path.stem.removeprefix(PREFIX).strip("_"): path for path in sorted(found) if path.is_file()}


def read_instances(path: Path) -> list[CocoPicture]:
    """The pictures of an instances file with their boxes, in its order; the whole file is held in memory.

    Raises `RecordingError` naming the key that is missing or wrong.
    """
    try:
        root = Node(json.loads(path.read_bytes()), str(path))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: not JSON ({error})") from None
    labels = _labels(root["categories"])
    boxes: dict[int, list[CocoBox | None]] = {_id(picture["id"]): [] for picture in root["images"].elements()}
    if len(boxes) < len(root["images"].elements()):
        raise RecordingError(f"{path}: two of its pictures have the same id")
    for node in root["annotations"].elements():
        picture, category = _id(node["image_id"]), _id(node["category_id"])
        if picture not in boxes:
            raise RecordingError(f"{node.place}: no picture has the id {picture}")
        if category not in labels:
            raise RecordingError(f"{node.place}: no category has the id {category}")
        box = _box(node["bbox"])
        boxes[picture].append(CocoBox(box, labels[category], bool(_crowd(node))) if box else None)
    return [_picture(node, boxes[_id(node["id"])]) for node in root["images"].elements()]


def _labels(categories: Node) -> dict[int, str]:
    labels: dict[int, str] = {}
    for node in categories.elements():
        name = class_name(node["name"].text())
        if not name or name in labels.values() or _id(node["id"]) in labels:
            raise RecordingError(f"{node.place}: the category '{name}' has no name, or its name or id is there twice")
        labels[_id(node["id"])] = name
    return labels


def _picture(node: Node, boxes: list[CocoBox | None]) -> CocoPicture:
    name = node["file_name"].text()
    if not name or "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise RecordingError(f"{node.place}: the file name {name!r} leads out of the folder")
    width, height = (int(node[key].number()) if key in node else 0 for key in ("width", "height"))
    kept = tuple(box for box in boxes if box)
    return CocoPicture(name, width, height, kept, len(boxes) - len(kept))


def _box(node: Node) -> Box2D | None:
    """The box; None for one without an area, as exporters write for masks of a pixel's width."""
    x, y, width, height = node.array(4).tolist()
    if width < 0 or height < 0:
        raise RecordingError(f"{node.place}: a box of {width:g}x{height:g} pixels")
    box = Box2D(x, y, x + width, y + height)
    return box if box.area > 0 else None


def _crowd(node: Node) -> int:
    return _id(node["iscrowd"]) if "iscrowd" in node else 0


def _id(node: Node) -> int:
    number = node.number()
    if not number.is_integer():
        raise RecordingError(f"{node.place}: {number} is not a whole number")
    return int(number)
