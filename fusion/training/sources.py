"""Training data of a task's detector, in the form ultralytics reads."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import RecordingError
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.task import Task
from fusion.training.kinds import kind_of, sorted_kinds
from fusion.training.tiles import write_data_yaml, write_split
from fusion.types import Truth

TILE = 320
"""Side of a training tile in pixels, for tasks whose objects are small."""


def image_folder(task: Task, root: Path) -> ImageFolder:
    """The labelled pictures of a task at `root`."""
    if not root.is_dir():
        raise RecordingError(f"{root}: no such folder; {task.name} data comes from {task.source}")
    return ImageFolder(root, form=LabelForm(task.labels.form), classes=task.classes)


def tiled_data(task: Task, root: Path, out: Path) -> Path:
    """Cut the `trainval` split at native resolution; every 20th picture validates. Returns the `data.yaml`."""
    yaml = out / "data.yaml"
    if yaml.is_file():
        return yaml
    folder = image_folder(task, root)
    stems = folder.stems("trainval")
    held = set(stems[5::20])
    train = [stem for stem in stems if stem not in held]
    write_split(map(folder.load, train), out, "train", total=len(train), tile=TILE, stride=TILE // 2)
    write_split(map(folder.load, sorted(held)), out, "val", total=len(held), tile=TILE, stride=TILE)
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
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(kinds))
    yaml = out / "data.yaml"
    yaml.write_text(f"path: {out.resolve()}\ntrain: train.txt\nval: val.txt\nnames:\n{names}", encoding="utf-8")
    return yaml
