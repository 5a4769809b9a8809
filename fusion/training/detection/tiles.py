"""Cuts labelled pictures into a training set in the form ultralytics reads (images/, labels/, data.yaml).

Small objects are trained at native resolution: overlapping square tiles instead of a shrunken picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from fusion.recording.pictures.image_folder import LabelledBox, LabelledImage
from fusion.types import Box2D, UInt8Array

_KEEP_VISIBLE = 0.4


def tile_origins(length: int, tile: int, stride: int) -> list[int]:
    """Start positions of tiles of size `tile` that cover `length`, the last flush with its end."""
    last = max(0, length - tile)
    return sorted({*range(0, last + 1, stride), last})


def cut_tiles(picture: LabelledImage, tile: int, stride: int) -> Iterator[tuple[str, UInt8Array, list[LabelledBox]]]:
    """Every tile of a picture: its name, pixels (tile, tile, 3) and the boxes at least 40 % inside it."""
    height, width = picture.image.pixels.shape[:2]
    for y in tile_origins(height, tile, stride):
        for x in tile_origins(width, tile, stride):
            pixels = picture.image.pixels[y : y + tile, x : x + tile]
            rows, columns = pixels.shape[:2]  # of a picture smaller than the tile, its own
            boxes = [clipped for box in picture.boxes if (clipped := _clip(box, x, y, columns, rows)) is not None]
            yield f"{picture.stem}_{y}_{x}", pixels, boxes


def _clip(labelled: LabelledBox, x: int, y: int, width: int, height: int) -> LabelledBox | None:
    box = labelled.box
    inside = Box2D(max(0.0, box.x1 - x), max(0.0, box.y1 - y), min(width, box.x2 - x), min(height, box.y2 - y))
    if inside.x2 <= inside.x1 or inside.y2 <= inside.y1 or inside.area < _KEEP_VISIBLE * box.area:
        return None
    return LabelledBox(inside, labelled.class_index)


def write_split(
    pictures: Iterable[LabelledImage], root: Path, split: str, *, total: int, tile: int = 0, stride: int = 0
) -> int:
    """Write one split under `root`; whole pictures when `tile` is 0. Returns how many were written."""
    for part in ("images", "labels"):
        (root / part / split).mkdir(parents=True, exist_ok=True)
    written = 0
    for picture in tqdm(pictures, total=total, desc=f"prepare {split}", unit="image"):
        cut = cut_tiles(picture, tile, stride) if tile else [(picture.stem, picture.image.pixels, list(picture.boxes))]
        for name, pixels, boxes in cut:
            _write(root, split, name.replace("/", "_"), pixels, boxes)
            written += 1
    return written


def _write(root: Path, split: str, name: str, pixels: UInt8Array, boxes: Sequence[LabelledBox]) -> None:
    height, width = pixels.shape[:2]
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(root / "images" / split / f"{name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    lines = [
        f"{b.class_index} {(b.box.x1 + b.box.x2) / 2 / width:.6f} {(b.box.y1 + b.box.y2) / 2 / height:.6f}"
        f" {(b.box.x2 - b.box.x1) / width:.6f} {(b.box.y2 - b.box.y1) / height:.6f}"
        for b in boxes
    ]
    (root / "labels" / split / f"{name}.txt").write_text("\n".join(lines) + "\n" * bool(lines), encoding="utf-8")


def write_data_yaml(
    root: Path,
    classes: Sequence[str],
    *,
    train: str = "images/train",
    val: str = "images/val",
    at: Path | None = None,
) -> Path:
    """The `data.yaml` in `root` that names the splits and the classes; they lie under `at`, by default `root`.

    Names and path are quoted: a class `on` is else read as true, and of a folder `y #1` the end as a comment.
    """
    yaml = root / "data.yaml"
    names = "".join(f"  {i}: {_quoted(name)}\n" for i, name in enumerate(classes))
    where = _quoted(str((at or root).resolve()))
    yaml.write_text(f"path: {where}\ntrain: {train}\nval: {val}\nnames:\n{names}", encoding="utf-8")
    return yaml


def data_names(yaml: Path) -> list[str]:
    """The classes a `data.yaml` names, in their order."""
    from ultralytics.utils import YAML

    names = YAML.load(yaml)["names"]
    return [str(names[i]) for i in range(len(names))]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
