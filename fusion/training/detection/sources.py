"""Training data of a task's detector, in the form ultralytics reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from fusion.errors import RecordingError
from fusion.recording.pictures.data_yaml import NAME
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.task import Task
from fusion.training.detection.kinds import kind_of, sorted_kinds
from fusion.training.detection.prepared import prepared
from fusion.training.detection.tiles import write_data_yaml, write_split
from fusion.types import UInt8Array

_HOLD_OUT, _FIRST_HELD = 20, 5
"""Of one list of pictures, which validate."""


def image_folder(task: Task, root: Path) -> ImageFolder:
    """The labelled pictures of a task at `root`."""
    if not root.is_dir():
        raise RecordingError(f"{root}: no such folder; {task.name} data comes from {task.source}")
    return ImageFolder(root, form=LabelForm(task.labels.form), classes=task.classes)


def training_data(task: Task, root: Path, out: Path, image_size: int) -> Path:
    """What a detector of `task` learns from and is validated on, under `out`: scenes as they are, or tiles of
    `image_size` pixels. Returns the `data.yaml`.
    """
    return scene_data(task, root, out / "data") if task.conditions else tiled_data(task, root, out, image_size)


def split_stems(folder: ImageFolder) -> tuple[list[str], list[str]]:
    """Stems of the pictures to learn from and of those to validate on, which share none.

    A folder has the splits `train` and `val`, or one `trainval`, of which every 20th picture validates. Raises
    `RecordingError` when it has neither.
    """
    if "trainval" not in folder.known_splits().split(", "):
        return folder.stems("train"), folder.stems("val")
    stems = folder.stems("trainval")
    held = set(stems[_FIRST_HELD % len(stems) :: _HOLD_OUT])
    return [stem for stem in stems if stem not in held], sorted(held)


def calibration_pictures(folder: ImageFolder, count: int) -> list[UInt8Array]:
    """Up to `count` pictures (H, W, 3) evenly spread over those to learn from; never one to validate on."""
    train, _ = split_stems(folder)
    chosen = np.unique(np.linspace(0, len(train) - 1, count).round().astype(int))
    return [folder.image(train[i]).pixels for i in chosen]


def tiled_data(task: Task, root: Path, out: Path, tile: int) -> Path:
    """Cut the pictures into tiles of `tile` pixels at native resolution. Returns the `data.yaml`.

    Tiles made of the same pictures and labels before are used again.
    """
    folder, out = image_folder(task, root), out / f"data-{tile}"
    train, held = split_stems(folder)

    def build(part: Path) -> None:
        write_split(map(folder.load, train), part, "train", total=len(train), tile=tile, stride=tile // 2)
        write_split(map(folder.load, held), part, "val", total=len(held), tile=tile, stride=tile)
        write_data_yaml(part, task.classes, at=out)

    pictures = picture_facts(folder, "train", train), picture_facts(folder, "val", held)
    facts = chain([["tiles", tile, *task.classes]], *pictures)
    return prepared(root, out, facts, build)


def picture_facts(folder: ImageFolder, split: str, stems: Iterable[str]) -> Iterator[object]:
    """All that decides what a split is: how labels are read, each picture's name and size, and each label's text.

    Two pictures of one name and size are taken for the same: a picture that is not compressed and was drawn anew under
    an old name is not seen.
    """
    yaml = folder.root / NAME
    yield [split, folder.form, yaml.read_text(encoding="utf-8", errors="replace") if yaml.is_file() else ""]
    for stem in stems:
        label = folder.label_path(stem)
        text = label.read_text(encoding="utf-8", errors="replace") if label.is_file() else ""
        yield [stem, picture_bytes(folder.image_path(stem)), text]


def scene_data(task: Task, root: Path, out: Path) -> Path:
    """Point ultralytics at the `train` and `val` scenes of a scene set, labelled by kind. Returns the `data.yaml`.

    The kinds are those the simulator has, whichever occur, so that a detector can always go on from another.
    """
    from fusion.simulation.scene_set import label_lines, read_truth
    from fusion.simulation.stock import CONDITIONS

    kinds = sorted_kinds(
        (f"{c}/{k}" for c, states in CONDITIONS.items() for k in states), task.classes, task.conditions
    )
    splits = {split: _scenes(task, root, split) for split in ("train", "val")}
    labels = {
        stem: label_lines(read_truth(root, stem), lambda thing: kinds.index(kind_of(thing)))
        for stems in splits.values()
        for stem in stems
    }

    def build(part: Path) -> None:
        (part / "labels").mkdir()
        # ultralytics looks for labels beside the folder `images` it is given
        (part / "images").symlink_to((root / "images").resolve(), target_is_directory=True)
        for split, stems in splits.items():
            paths = [str(out.absolute() / "images" / f"{stem}.jpg") for stem in stems]
            (part / f"{split}.txt").write_text("\n".join(paths) + "\n", encoding="utf-8")
        for stem, text in labels.items():
            (part / "labels" / f"{stem}.txt").write_text(text, encoding="utf-8")
        write_data_yaml(part, kinds, train="train.txt", val="val.txt", at=out)

    pictures = [[stem, picture_bytes(root / "images" / f"{stem}.jpg"), text] for stem, text in labels.items()]
    return prepared(root, out, [["scenes", *kinds], splits, *pictures], build)


def _scenes(task: Task, root: Path, split: str) -> list[str]:
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise RecordingError(f"{listing}: no such split; make it with 'fusion simulate {task.name} --scenes'")
    return listing.read_text(encoding="utf-8").split()


def picture_bytes(picture: Path) -> int:
    """How large a picture's file is. Raises `RecordingError` where there is none."""
    try:
        return picture.stat().st_size
    except OSError as error:
        raise RecordingError(f"{picture}: cannot be read ({error.strerror})") from None
