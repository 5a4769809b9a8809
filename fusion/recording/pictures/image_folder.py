"""Image folders with box labels, in the DeepPCB and the YOLO form.

A dataset is a folder with `images/`, `labels/` and one `SPLIT.txt` of stems a split (other texts are let be):

    DeepPCB   `x1 y1 x2 y2 type`, integer pixels, types from 1, spaces or commas between
    YOLO      `class cx cy w h`, class from 0, the rest as shares of the image's size

A split may also be a sub-folder of both, `images/SPLIT/` and `labels/SPLIT/`, and a folder without any split is read
as a whole. In the YOLO form a `data.yaml` may name the classes, and say which sub-folder a split is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.preparation import decode_image, read_header
from fusion.recording.pictures.data_yaml import DataYaml, read_data_yaml
from fusion.recording.pictures.lookup import is_file, is_folder
from fusion.types import Box2D, Image

T = TypeVar("T")
_KINDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SUFFIXES = (*_KINDS, *map(str.upper, _KINDS))
_LOOKED_AT_BYTES = 1 << 14
"""How much of a text is looked at to see whether it lists pictures."""


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
        self._yaml = read_data_yaml(root) if form is LabelForm.YOLO else DataYaml({}, {})
        for part in ("images", "labels"):
            if not (root / part).is_dir():
                raise RecordingError(f"{root}: no folder '{part}' in it; an image folder holds images/ and labels/")

    def known_splits(self) -> str:
        """The names of the splits there are, for messages."""
        return ", ".join(sorted(self._splits())) or "none"

    def stems(self, split: str | None) -> list[str]:
        """The stems named by `SPLIT.txt`, in its order, or those of the split's sub-folder, by name.

        None stands for all pictures of a folder that has no splits. Stems of a sub-folder begin with its name.
        """
        if split is None and self._splits():
            raise RecordingError(f"{self.root}: an image folder needs a split; splits here: {self.known_splits()}")
        sub_folder = "" if split is None else self._sub_folder(split)
        if sub_folder is not None:
            return self._pictures(sub_folder)
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

    def _splits(self) -> set[str]:
        folders = {entry.name for entry in (self.root / "images").iterdir() if entry.is_dir()}
        named = {split for split in self._yaml.splits if self._sub_folder(split) is not None}
        return {path.stem for path in self.root.glob("*.txt") if self._is_list(path)} | folders | named

    def _is_list(self, path: Path) -> bool:
        """Whether a text names pictures, by one that is there or has a picture's suffix: `classes.txt` does not."""
        try:
            with path.open("rb") as file:
                entries = file.read(_LOOKED_AT_BYTES).decode(errors="replace").split()
        except OSError:
            return False
        return any(PurePosixPath(entry).suffix in _SUFFIXES or self._picture_of(entry) for entry in entries)

    def _sub_folder(self, split: str) -> str | None:
        """The sub-folder of `images/` that is a split; None for a split by list, and for an unknown one."""
        path = self.root / f"{split}.txt"
        if is_file(path) and self._is_list(path):
            return None
        named = PurePosixPath(self._yaml.splits.get(split, ""))
        below = "/".join(named.parts[1:]) if named.parts[:1] == ("images",) else ""
        found = (name for name in (below, split) if name and ".." not in PurePosixPath(name).parts)
        return next((name for name in found if is_folder(self.root / "images" / name)), None)

    def _pictures(self, sub_folder: str) -> list[str]:
        folder = self.root / "images" / sub_folder
        found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        if not found:
            raise RecordingError(f"{folder}: no pictures in it ({', '.join(_KINDS)})")
        stems = [(PurePosixPath(sub_folder) / path.stem).as_posix() for path in found]
        if twice := {stem for stem, count in Counter(stems).items() if count > 1}:
            raise RecordingError(
                f"{folder}: several pictures are called {min(twice)}; their labels cannot be told apart"
            )
        return stems

    def read(self, split: str | None) -> Iterator[LabelledImage]:
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
        path = self._picture_of(stem)
        if path is None:
            raise RecordingError(f"{self.root / 'images'}: no picture named {stem}.(jpg|png|webp|bmp)")
        return path

    def _picture_of(self, stem: str) -> Path | None:
        paths = (self.root / "images" / f"{stem}{suffix}" for suffix in _SUFFIXES)
        return next(filter(is_file, paths), None)

    def label_path(self, stem: str) -> Path:
        """Where the labels of a stem are; a picture without boxes need not have the file."""
        return self.root / "labels" / f"{stem}.txt"

    def named_classes(self, stems: Iterable[str]) -> dict[str, bool]:
        """The class names of `data.yaml`, and whether the pictures `stems` have a box of each; empty without a file.

        Label files are not checked here. Raises `RecordingError` for a picture that is not there.
        """
        names = self._yaml.names
        if not names:
            return {}
        used: set[str] = set()
        for path in map(self.label_path, stems):
            if is_file(path):
                used.update(line.split(maxsplit=1)[0] for line in _lines(path) if line.strip())
        return {name: str(number) in used for number, name in names.items()}

    def _boxes(self, stem: str, width: int, height: int) -> Iterator[LabelledBox]:
        path = self.label_path(stem)
        if not path.is_file():
            return
        names = self._yaml.names
        count = max(names, default=-1) + 1 if names else len(self.classes)
        for labelled in read_boxes(path, self.form, count, width, height):
            yield self._renumbered(labelled, path) if names else labelled

    def _renumbered(self, labelled: LabelledBox, path: Path) -> LabelledBox:
        """The box with the task's number of the class that `data.yaml` names."""
        name = self._yaml.names.get(labelled.class_index, f"class {labelled.class_index}")
        if name not in self.classes:
            known, named = ", ".join(self.classes), ", ".join(self._yaml.names.values())
            raise RecordingError(f"{path}: no class '{name}' is known; known: {known}; named by data.yaml: {named}")
        return replace(labelled, class_index=self.classes.index(name))


def _picture(path: Path, read: Callable[[bytes], T]) -> T:
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError as error:
        raise RecordingError(f"{path}: not a picture that can be decoded: {error}") from None


def read_boxes(path: Path, form: LabelForm, classes: int, width: int, height: int) -> Iterator[LabelledBox]:
    """The boxes of one label file for a picture of `width` x `height`; raises `RecordingError` naming the line."""
    for number, line in enumerate(_lines(path), 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            yield _box([float(f) for f in fields], form, classes, width, height)
        except ValueError as error:
            raise RecordingError(f"{path}:{number}: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None


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
