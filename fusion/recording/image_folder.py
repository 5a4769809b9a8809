"""Image folders with box labels, in the DeepPCB and the YOLO form.

A dataset is a folder with `images/`, `labels/` and one `SPLIT.txt` of stems a split:

    DeepPCB   `x1 y1 x2 y2 type`, integer pixels, types from 1, spaces or commas between
    YOLO      `class cx cy w h`, class from 0, the rest as shares of the image's size
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np

from fusion.errors import RecordingError
from fusion.types import Box2D, Image

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class LabelForm(StrEnum):
    """How the lines of a label file are meant."""

    DEEPPCB = "deeppcb"
    YOLO = "yolo"


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box and its class index, counted from 0."""

    box: Box2D
    class_index: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One picture of the folder with its truth."""

    stem: str
    path: Path
    image: Image
    boxes: tuple[LabelledBox, ...]


class ImageFolder:
    """Reads `root/images`, `root/labels` and `root/SPLIT.txt`, one picture at a time."""

    def __init__(self, root: Path, *, form: LabelForm, classes: Sequence[str]) -> None:
        self.root = root
        self.form = form
        self.classes = tuple(classes)
        for part in ("images", "labels"):
            if not (root / part).is_dir():
                raise RecordingError(f"{root}: no folder '{part}' in it; an image folder holds images/ and labels/")

    def stems(self, split: str) -> list[str]:
        """The stems named by `SPLIT.txt`, in its order."""
        path = self.root / f"{split}.txt"
        try:
            stems = path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            known = ", ".join(sorted(p.stem for p in self.root.glob("*.txt"))) or "none"
            raise RecordingError(f"{path}: no such split; splits here: {known}") from None
        if not stems:
            raise RecordingError(f"{path}: the split is empty")
        return stems

    def read(self, split: str) -> Iterator[LabelledImage]:
        """Every picture of the split, decoded, with its boxes."""
        for stem in self.stems(split):
            yield self.load(stem)

    def load(self, stem: str) -> LabelledImage:
        """One picture by stem. Raises `RecordingError` naming the file (and line) that is wrong."""
        path = self.image_path(stem)
        encoded = path.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise RecordingError(f"{path}: not a picture that can be decoded")
        height, width = pixels.shape[:2]
        image = Image(np.asarray(pixels, np.uint8), encoded, path.suffix.lstrip(".").lower())
        return LabelledImage(stem, path, image, tuple(self._boxes(stem, width, height)))

    def image_path(self, stem: str) -> Path:
        """The picture of a stem, whatever its suffix."""
        for suffix in _SUFFIXES:
            path = self.root / "images" / f"{stem}{suffix}"
            if path.is_file():
                return path
        raise RecordingError(f"{self.root / 'images'}: no picture named {stem}.(jpg|png|webp|bmp)")

    def _boxes(self, stem: str, width: int, height: int) -> Iterator[LabelledBox]:
        path = self.root / "labels" / f"{stem}.txt"
        if not path.is_file():
            return
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fields = line.replace(",", " ").split()
            if not fields:
                continue
            try:
                yield self._box([float(f) for f in fields], width, height)
            except ValueError as error:
                raise RecordingError(f"{path}:{number}: {error}") from None

    def _box(self, values: list[float], width: int, height: int) -> LabelledBox:
        if len(values) != 5:
            raise ValueError(f"{len(values)} numbers where the {self.form} form has 5")
        if not np.isfinite(values).all():
            raise ValueError("a number is not finite")
        if self.form is LabelForm.DEEPPCB:
            index, box = int(values[4]) - 1, Box2D(*values[:4])
        else:
            index, cx, cy, w, h = int(values[0]), *values[1:]
            box = Box2D((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        if not 0 <= index < len(self.classes):
            raise ValueError(f"class {index} is outside 0..{len(self.classes) - 1}")
        if box.area <= 0:
            raise ValueError("the box is empty")
        return LabelledBox(box, index)
