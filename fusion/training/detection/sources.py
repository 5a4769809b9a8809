"""Training data of a task's detector, in the form ultralytics reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.errors import RecordingError
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.task import Task
from fusion.training.detection.kinds import kind_of, sorted_kinds
from fusion.training.detection.tiles import write_data_yaml, write_split
from fusion.types import Truth, UInt8Array

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
    """Cut the pictures into tiles of `tile` pixels at native resolution. Returns the `data.yaml`."""
    out = out / f"data-{tile}"
    yaml = out / "data.yaml"
    if yaml.is_file():
        return yaml
    folder = image_folder(task, root)
    train, held = split_stems(folder)
    write_split(map(folder.load, train), out, "train", total=len(train), tile=tile, stride=tile // 2)
    write_split(map(folder.load, held), out, "val", total=len(held), tile=tile, stride=tile)
    return write_data_yaml(out, task.classes)


def scene_data(task: Task, root: Path, out: Path) -> Path:
    """Point ultralytics at the `train` and `val` scenes of a scene set, labelled by kind. Returns the `data.yaml`.

    The kinds are those the simulator has, whichever occur, so that a detector can always go on from another.
    """
    from fusion.simulation.scene_set import label_lines, read_truth
    from fusion.simulation.stock import CONDITIONS

    (out / "labels").mkdir(parents=True, exist_ok=True)
    pictures = out / "images"  # ultralytics looks for labels beside the folder `images` it is given
    if not pictures.exists():
        pictures.symlink_to((root / "images").resolve(), target_is_directory=True)
    truths: dict[str, Truth] = {}
    for split in ("train", "val"):
        listing = root / f"{split}.txt"
        if not listing.is_file():
            raise RecordingError(f"{listing}: no such split; make it with 'fusion simulate {task.name} --scenes'")
        stems = listing.read_text(encoding="utf-8").split()
        truths |= {stem: read_truth(root, stem) for stem in stems}
        paths = [str(pictures.absolute() / f"{stem}.jpg") for stem in stems]
        (out / f"{split}.txt").write_text("\n".join(paths) + "\n", encoding="utf-8")
    kinds = sorted_kinds(
        (f"{c}/{k}" for c, states in CONDITIONS.items() for k in states), task.classes, task.conditions
    )
    for stem, truth in truths.items():
        text = label_lines(truth, lambda thing: kinds.index(kind_of(thing)))
        (out / "labels" / f"{stem}.txt").write_text(text, encoding="utf-8")
    return write_data_yaml(out, kinds, train="train.txt", val="val.txt")
