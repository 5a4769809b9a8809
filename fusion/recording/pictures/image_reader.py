"""An image folder as a recording: one camera, one picture after the other at the task's rate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from fusion.errors import RecordingError
from fusion.recording.base import EMPTY, RecordingInfo, SensorInfo
from fusion.recording.damage import DamageLog
from fusion.recording.pictures.class_names import check_classes
from fusion.recording.pictures.coco_file import instance_files
from fusion.recording.pictures.data_yaml import NAME as DATA_YAML
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.recording.pictures.lookup import is_file
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import Modality, Reading, Truth, TruthObject


class ImageFolderReader:
    """The pictures of one split as readings of the task's first camera.

    Pictures carry no time: capture times are NOMINAL, picture i (from 0) at i / rate of the camera, and
    `info().notes["times"]` says so. A cursor is a picture's number in the split, from 1. In the truth, `track`
    numbers the boxes of the whole split. With `salvage` pictures that cannot be decoded, or whose labels are wrong,
    are left out, and `info().damage` says which.
    """

    def __init__(self, folder: ImageFolder, task: Task, split: str | None, *, salvage: bool = False) -> None:
        cameras = task.of_modality(Modality.CAMERA)
        if not cameras:
            raise RecordingError(f"{folder.root}: pictures, but task {task.name} has no camera")
        self._folder, self._task, self._split, self._salvage = folder, task, split, salvage
        self._camera = cameras[0]
        self._stems = folder.stems(split)
        named = folder.named_classes(self._stems)
        check_classes(str(folder.root / DATA_YAML), (name for name, used in named.items() if used), task)
        self._unknown = sorted(named.keys() - set(task.classes))

    @staticmethod
    def can_read(path: Path) -> bool:
        """A folder with `images/` in it, and no COCO file that tells of them."""
        return (path / "images").is_dir() and not instance_files(path)

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open a split of `path`.

        Raises `RecordingError` when the task, or one of several splits, is not given, and when `data.yaml` names a
        class that has a box in the split and is none of the task's.
        """
        if task is None:
            raise RecordingError(f"{path}: an image folder needs a task, which names its classes and label form")
        try:
            form = LabelForm(task.labels.form)
        except ValueError:
            raise RecordingError(
                f"{path}: task {task.name} has labels of the form '{task.labels.form}'; known: {', '.join(LabelForm)}"
            ) from None
        folder = ImageFolder(path, form=form, classes=task.classes)
        return cls(folder, task, split, salvage=salvage)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.root

    def info(self) -> RecordingInfo:
        """What the split holds; its hash covers stems, pictures and labels."""
        times = [self._time_ns(index) for index, _ in self._sound]
        rate = self._task.sensors[self._camera].rate_hz
        digest, size = self._content
        notes = {"times": f"nominal: {rate:g} Hz, the pictures carry none", "split": self._split or "all"}
        if self._unknown:
            notes["unknown classes"] = (
                f"{', '.join(self._unknown)}: named by {DATA_YAML}, not known to task {self._task.name}; no box here"
            )
        return RecordingInfo(
            path=self.path,
            format="image-folder",
            content_sha256=digest,
            byte_size=size,
            task=self._task.name,
            sensors={self._camera: SensorInfo.of_times(Modality.CAMERA, f"images/ ({self._split or 'all'})", times)},
            rig=None,
            truths=len(times),
            notes=notes,
            damage=self._unsound[1],
            continuous=False,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the split's picture files."""
        return {self._camera: sum(self._folder.image_path(stem).stat().st_size for _, stem in self._sound)}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The pictures of the split, in its order."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; other pictures are not opened."""
        for index in range(max(0, start_cursor), len(self._stems)):
            time_ns = self._time_ns(index)
            if times.covers(time_ns) and index not in self._unsound[0]:
                image = EMPTY[Modality.CAMERA] if empty else self._folder.image(self._stems[index])
                yield index + 1, Reading(self._camera, Modality.CAMERA, time_ns, image)

    def truth(self) -> Iterator[Truth]:
        """The boxes of each picture, at the picture's time."""
        return self.truth_between(ALWAYS)

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""
        return (moment for moment in self._truths() if times.covers(moment.time_ns))

    def _truths(self) -> Iterator[Truth]:
        track = 0
        for index, stem in self._sound:
            objects = []
            for labelled in self._folder.boxes(stem):
                track += 1
                objects.append(TruthObject(track, self._task.classes[labelled.class_index], box2d=labelled.box))
            yield Truth(self._time_ns(index), tuple(objects))

    def names(self) -> Mapping[int, str]:
        """The pictures' files below `images/`, by time."""
        return {self._time_ns(i): f"{stem}{self._folder.image_path(stem).suffix}" for i, stem in self._sound}

    def _time_ns(self, index: int) -> int:
        return round(index * 1e9 / self._task.sensors[self._camera].rate_hz)

    @property
    def _sound(self) -> list[tuple[int, str]]:
        """Number from 0 and stem of the pictures that can be used."""
        return [(index, stem) for index, stem in enumerate(self._stems) if index not in self._unsound[0]]

    @cached_property
    def _unsound(self) -> tuple[frozenset[int], str]:
        """Which pictures of a salvaged split cannot be used, from 0, and what is wrong with them."""
        found, log = set(), DamageLog()
        for index, stem in enumerate(self._stems if self._salvage else ()):
            try:
                self._folder.load(stem)
            except RecordingError as error:
                found.add(index)
                log.add(f"{error}; left out")
        return frozenset(found), str(log)

    @cached_property
    def _content(self) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        classes = self._folder.root / DATA_YAML
        if classes.is_file() and self._folder.form is LabelForm.YOLO:
            digest.update(classes.read_bytes())
        for stem in self._stems:
            for path in (self._picture(stem), self._folder.label_path(stem)):
                data = path.read_bytes() if is_file(path) else b""
                digest.update(f"{stem} {path.suffix} {len(data)}\n".encode() + data)
                size += len(data)
        return digest.hexdigest(), size

    def _picture(self, stem: str) -> Path:
        """The picture of a stem; of one that a salvaged split lacks, a path at which there is none."""
        try:
            return self._folder.image_path(stem)
        except RecordingError:
            if not self._salvage:
                raise
            return self._folder.root / "images" / stem
