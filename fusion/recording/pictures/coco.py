"""A COCO data set as a recording: one camera, one picture after the other at a nominal rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from fusion.errors import RecordingError
from fusion.recording.content import check_task
from fusion.recording.driving.dataset import (
    Dataset,
    DatasetReader,
    Loader,
    Report,
    Sound,
    StoredReading,
    load_picture,
    picture_size,
)
from fusion.recording.pictures.class_names import check_classes
from fusion.recording.pictures.coco_file import CocoPicture, instance_files, read_instances
from fusion.recording.sensor_name import sensor_name
from fusion.task import Task
from fusion.types import Image, Modality, Truth, TruthObject

NOMINAL_HZ = 1.0
_SHOWN = 40
CROWD = "dontcare"
"""What regions of many are called, as in KITTI: found or not found there, a thing counts neither way."""


class CocoReader(DatasetReader):
    """Reads a folder with `instances.json` or `instances_SPLIT.json`, itself or its `annotations/`, and pictures.

    Pictures lie in `images/SPLIT/`, `SPLIT/`, `images/` or the folder itself; those listed that are not there are told
    by `info().unread`. The camera is the task's only one, else `camera`. Pictures carry no time: picture i (from 0) of
    those there is NOMINAL, at i / rate of the task's camera, else at i seconds. Regions marked `iscrowd` are in the
    truth as `dontcare` with visibility 0, never as an object of their category.
    """

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with an instances file."""
        return bool(instance_files(path))

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a split; raises `RecordingError` for labels the task does not know, and naming what is wrong.

        Of each picture the header is read, to hold its size against the listing's; when salvaging, those of another
        size are left out where they are read.
        """
        split, listing = _choose(path, split)
        listed = read_instances(listing)
        places = {picture.name: _find(path, listing, split, picture.name) for picture in listed}
        here = [(picture, place) for picture in listed if (place := places[picture.name])]
        if not here:
            raise RecordingError(f"{listing}: none of its {len(listed)} pictures is in {path} or its images/")
        if not salvage:
            for picture, place in here:
                _check_size(picture, place, picture_size(place))
        camera = sensor_name(task, Modality.CAMERA)
        check_task(path, {camera}, task)
        if task:
            labels = {box.label for picture, _ in here for box in picture.boxes if not box.crowd}
            check_classes(str(listing), labels, task)
        rate = task.sensors[camera].rate_hz if task else NOMINAL_HZ
        plan = _plan(path, listing, here, camera, rate, task.name if task else "", len(listed))
        return cls(plan, salvage=salvage)


def _choose(path: Path, split: str | None) -> tuple[str, Path]:
    found = instance_files(path)
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        asked = f"no split '{split}' in it" if split else "several splits; give one"
        raise RecordingError(f"{path}: {asked}; there are: {', '.join(name or 'instances' for name in found)}")
    return split, found[split]


def _find(root: Path, listing: Path, split: str, name: str) -> Path | None:
    places = ([root / "images" / split, root / split] if split else []) + [root / "images", root]
    try:
        return next((place / name for place in places if (place / name).is_file()), None)
    except OSError as error:
        short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        raise RecordingError(f"{listing}: the picture '{short}' cannot be looked for ({error.strerror})") from None


def _plan(
    root: Path,
    listing: Path,
    here: Sequence[tuple[CocoPicture, Path]],
    camera: str,
    rate_hz: float,
    task: str,
    listed: int,
) -> Dataset:
    times = [round(i * 1e9 / rate_hz) for i in range(len(here))]
    crowds = sum(box.crowd for picture, _ in here for box in picture.boxes)
    notes = {"times": f"nominal: {rate_hz:g} Hz, the pictures carry none"}
    empty = sum(picture.empty for picture, _ in here)
    notes |= {"empty boxes": f"{empty} without an area, left out of the truth"} if empty else {}
    notes |= {"crowds": f"{crowds} regions of many, in the truth as '{CROWD}'"} if crowds else {}
    gone = listed - len(here)
    return Dataset(
        path=root,
        format="coco",
        readings=tuple(
            StoredReading(time, camera, Modality.CAMERA, (place,)) for time, (_, place) in zip(times, here, strict=True)
        ),
        loaders={camera: _loader({place: picture for picture, place in here})},
        sources={camera: listing.name},
        rig=None,
        truth=lambda sound, _report: _truth(here, times, sound),
        truths=len(here),
        notes=notes,
        side_files=(listing,),
        unread=(f"{gone} of {listed} listed pictures, which are not in the folder",) if gone else (),
        continuous=False,
        task=task,
        names={time: picture.name for time, (picture, _) in zip(times, here, strict=True)},
    )


def _loader(pictures: dict[Path, CocoPicture]) -> Loader:
    """Loads a picture and holds it against the size its boxes were drawn for."""

    def load(files: tuple[Path, ...], report: Report) -> Image | None:
        image = load_picture(files, report)
        if image is not None:
            height, width = image.pixels.shape[:2]
            try:
                _check_size(pictures[files[0]], files[0], (width, height))
            except RecordingError as error:
                report(str(error))
                return None
        return image

    return load


def _check_size(told: CocoPicture, place: Path, size: tuple[int, int]) -> None:
    """Raise `RecordingError` when a picture has not the width and height that its listing tells."""
    if any(there != listed for there, listed in zip(size, (told.width, told.height), strict=True) if listed):
        listed = "x".join(str(length or "?") for length in (told.width, told.height))
        raise RecordingError(f"{place}: {size[0]}x{size[1]} pixels, but its boxes are for {listed}")


def _truth(here: Sequence[tuple[CocoPicture, Path]], times_ns: Sequence[int], sound: Sound) -> Iterator[Truth]:
    track = 0
    for (picture, place), time_ns in zip(here, times_ns, strict=True):
        if not sound(place):
            continue
        objects = []
        for told in picture.boxes:
            track += 1
            label, visibility = (CROWD, 0.0) if told.crowd else (told.label, 1.0)
            objects.append(TruthObject(track, label, box2d=told.box, visibility=visibility))
        yield Truth(time_ns, tuple(objects))
