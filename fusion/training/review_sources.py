"""Where reviewed items come from: labelled moments of a task, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.pictures.image_folder import ImageFolder, LabelledImage
from fusion.task import Task
from fusion.training.detection.prepared import facts_sha256
from fusion.training.detection.sources import picture_bytes, picture_facts
from fusion.types import Availability, Box2D, Image, Modality, Payload, Reading, SensorSlot, TruthObject


@dataclass(frozen=True, slots=True, eq=False)
class LabelledMoment:
    """One moment with its truth. `truth` boxes are in pixels of the frame; `slots` as in `Sample`."""

    time_ns: int
    image: Image
    truth: tuple[TruthObject, ...]
    slots: Mapping[str, SensorSlot]
    rig: Rig | None


class MomentSource(Protocol):
    """A picklable list of moments."""

    def __len__(self) -> int:
        """How many there are."""

    def load(self, index: int) -> LabelledMoment:
        """One of them; the same every time."""

    def scene(self, index: int) -> int:
        """The scene a moment belongs to; moments of one scene are not independent."""

    def facts(self) -> str:
        """A digest of all that decides what its moments are, found without loading them, wherever they lie."""


@dataclass(frozen=True)
class FolderMoments:
    """Pictures of an image folder, each in `variants` ways.

    The first way is the picture as it is; the others are mirrored or turned, moved, scaled, and noisy, so that a
    detector trained on these pictures makes the mistakes it makes on new ones.
    """

    folder: ImageFolder
    task: Task
    stems: tuple[str, ...]
    variants: int = 1
    seed: int = 7

    def __len__(self) -> int:
        return len(self.stems) * self.variants

    def scene(self, index: int) -> int:
        """The picture's number."""
        return index // self.variants

    def facts(self) -> str:
        """The digest of the pictures' names and sizes, their labels' texts, how these are read, and the ways."""
        ways = ["pictures", self.variants, self.seed, *self.folder.classes]
        return facts_sha256(chain([ways], picture_facts(self.folder, "", self.stems)))

    def load(self, index: int) -> LabelledMoment:
        """Picture `index // variants`, the way `index % variants`."""
        labelled = self.folder.load(self.stems[self.scene(index)])
        pixels, boxes = labelled.image.pixels, [entry.box for entry in labelled.boxes]
        if index % self.variants:
            rng = np.random.default_rng([self.seed, index])
            pixels, boxes = _varied(labelled, rng)
        truth = tuple(
            TruthObject(track=number + 1, label=self.task.classes[entry.class_index], box2d=box)
            for number, (entry, box) in enumerate(zip(labelled.boxes, boxes, strict=True))
        )
        image = Image(pixels)
        camera = self.task.of_modality(Modality.CAMERA)[0]
        return LabelledMoment(index, image, truth, {camera: _present(camera, Modality.CAMERA, index, image)}, None)


@dataclass(frozen=True)
class YardMoments:
    """Scenes of a simulated scene set; a share `absent` of them lacks the LiDAR, the same share the microphone."""

    root: Path
    task: Task
    stems: tuple[str, ...]
    absent: float = 0.0
    seed: int = 7

    @classmethod
    def of_split(cls, root: Path, task: Task, split: str, *, absent: float = 0.0) -> YardMoments:
        """All scenes `SPLIT.txt` names. Raises `RecordingError`."""
        listing = root / f"{split}.txt"
        if not listing.is_file():
            raise RecordingError(f"{listing}: no such split; make it with 'fusion simulate {task.name} --scenes'")
        return cls(root, task, tuple(listing.read_text(encoding="utf-8").split()), absent)

    def __len__(self) -> int:
        return len(self.stems)

    def scene(self, index: int) -> int:
        """Every scene is one moment."""
        return index

    def facts(self) -> str:
        """The digest of the scenes' names, their pictures' sizes and their truth, and of which sensors are left out."""
        return facts_sha256(chain([["scenes", self.absent, self.seed]], scene_facts(self.root, self.stems)))

    def load(self, index: int) -> LabelledMoment:
        """Scene `index`."""
        from fusion.simulation.scene_set import read_scene

        sample = read_scene(self.root, self.stems[index])
        rng = np.random.default_rng([self.seed, index])
        start = sample.time_ns - round(1e9 * len(sample.audio.pcm) / sample.audio.sample_rate_hz)
        payloads: dict[Modality, tuple[int, Payload]] = {
            Modality.CAMERA: (sample.time_ns, sample.image),
            Modality.LIDAR: (sample.time_ns, sample.cloud),
            Modality.SPEECH: (start, sample.audio),
        }
        slots = {}
        for name, sensor in self.task.sensors.items():
            missing = rng.random() < self.absent and sensor.modality is not Modality.CAMERA
            time_ns, payload = payloads[sensor.modality]
            slots[name] = SensorSlot.absent() if missing else _present(name, sensor.modality, time_ns, payload)
        return LabelledMoment(sample.time_ns, sample.image, sample.truth.objects, slots, sample.rig)


def scene_facts(root: Path, stems: Iterable[str]) -> Iterator[list[object]]:
    """Of each scene of a scene set its name, its picture's size and its truth. Raises `RecordingError`."""
    for stem in stems:
        path = root / "truth" / f"{stem}.json"
        try:
            truth = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
        yield [stem, picture_bytes(root / "images" / f"{stem}.jpg"), truth]


def held_out(stems: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A picture list as `tiled_data` divides it: those the detector learnt from, and every 20th, which it did not."""
    held = tuple(stems[5::20])
    return tuple(stem for stem in stems if stem not in set(held)), held


def _present(name: str, modality: Modality, time_ns: int, payload: Payload) -> SensorSlot:
    return SensorSlot(Availability.PRESENT, 0, Reading(name, modality, time_ns, payload))


def _varied(labelled: LabelledImage, rng: np.random.Generator) -> tuple[np.ndarray, list[Box2D]]:
    """The picture through a mirroring or quarter turn, a scaling and shift, blur and noise; boxes go along."""
    pixels = labelled.image.pixels
    height, width = pixels.shape[:2]
    centre = np.array([width / 2, height / 2])
    turn = rng.integers(4) * np.pi / 2
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).round()
    linear = linear @ np.diag([rng.choice([-1.0, 1.0]), 1.0]) * rng.uniform(0.85, 1.15)
    offset = centre - linear @ centre + rng.uniform(-16, 16, 2)
    affine = np.concatenate([linear, offset[:, None]], 1)
    moved = cv2.warpAffine(pixels, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.1, 0.9))
    noisy = moved * rng.uniform(0.85, 1.1) + rng.normal(0, rng.uniform(0, 8), moved.shape)
    boxes = [_moved(entry.box, affine, width, height) for entry in labelled.boxes]
    return np.clip(noisy, 0, 255).astype(np.uint8), boxes


def _moved(box: Box2D, affine: np.ndarray, width: int, height: int) -> Box2D:
    corners = np.array([[box.x1, box.y1, 1], [box.x2, box.y1, 1], [box.x1, box.y2, 1], [box.x2, box.y2, 1]]) @ affine.T
    low, high = corners.min(0), corners.max(0)
    limit = np.array([width, height])
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    return Box2D(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
