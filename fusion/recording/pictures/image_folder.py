"""Image folders with box labels, in the DeepPCB and the YOLO form.

A dataset is a folder with `images/`, `labels/` and one `SPLIT.txt` of stems a split:

    DeepPCB   `x1 y1 x2 y2 type`, integer pixels, types from 1, spaces or commas between
    YOLO      `class cx cy w h`, class from 0, the rest as shares of the image's size
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.preparation import decode_image, read_header
from fusion.types import Box2D, Image

T = TypeVar("T")
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

    def known_splits(self) -> str:
        """The names of the splits there are, for messages."""
        return ", ".join(sorted(p.stem for p in self.root.glob("*.txt"))) or "none"

    def stems(self, split: str) -> list[str]:
        """The stems named by `SPLIT.txt`, in its order."""
        path = self.root / f"{split}.txt"
        try:
            stems = path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            raise RecordingError(f"{path}: no such split; splits here: {self.known_splits()}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(f"{path}: the split cannot be read ({error})") from None
        if not stems:
            raise RecordingError(f"{path}: the split is empty")
        return stems

    def read(self, split: str) -> Iterator[LabelledImage]:
        """Every picture of the split, decoded, with its boxes."""
        for stem in self.stems(split):
            yield self.load(stem)

    def load(self, stem: str) -> LabelledImage:
        """One picture by stem. Raises `RecordingError` naming the file (and line) that is wrong."""
        image = self.image(stem)
        height, width = image.pixels.shape[:2]
        return LabelledImage(stem, self.image_path(stem), image, tuple(self._boxes(stem, width, height)))

    def image(self, stem: str) -> Image:
        """The picture of a stem, decoded. Raises `RecordingError` naming the file."""
        return _picture(self.image_path(stem), decode_image)

    def boxes(self, stem: str) -> tuple[LabelledBox, ...]:
        """The boxes of a stem; of the picture only the header is looked at."""
        header = _picture(self.image_path(stem), read_header)
        return tuple(self._boxes(stem, header.width, header.height))

    def image_path(self, stem: str) -> Path:
        """The picture of a stem, whatever its suffix."""
        for suffix in _SUFFIXES:
            path = self.root / "images" / f"{stem}{suffix}"
            if path.is_file():
                return path
        raise RecordingError(f"{self.root / 'images'}: no picture named {stem}.(jpg|png|webp|bmp)")

    def label_path(self, stem: str) -> Path:
        """Where the labels of a stem are; a picture without boxes need not have the file."""
        return self.root / "labels" / f"{stem}.txt"

    def _boxes(self, stem: str, width: int, height: int) -> Iterator[LabelledBox]:
        path = self.label_path(stem)
        if path.is_file():
            yield from read_boxes(path, self.form, len(self.classes), width, height)


def _picture(path: Path, read: Callable[[bytes], T]) -> T:
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError as error:
        raise RecordingError(f"{path}: not a picture that can be decoded: {error}") from None


def read_boxes(path: Path, form: LabelForm, classes: int, width: int, height: int) -> Iterator[LabelledBox]:
    """The boxes of one label file for a picture of `width` x `height`; raises `RecordingError` naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            yield _box([float(f) for f in fields], form, classes, width, height)
        except ValueError as error:
            raise RecordingError(f"{path}:{number}: {error}") from None


def _box(values: list[float], form: LabelForm, classes: int, width: int, height: int) -> LabelledBox:
    if len(values) != 5:
        raise ValueError(f"{len(values)} numbers where the {form} form has 5")
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    if form is LabelForm.DEEPPCB:
        first, number, box = 1, values[4], Box2D(*values[:4])
    else:
        first, number, (cx, cy, w, h) = 0, values[0], values[1:]
        box = Box2D((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    if not number.is_integer() or not first <= number < first + classes:
        raise ValueError(f"class {number:g} is not one of {first}..{first + classes - 1}")
    if box.x2 <= box.x1 or box.y2 <= box.y1:
        raise ValueError("the box is empty")
    return LabelledBox(box, int(number) - first)
