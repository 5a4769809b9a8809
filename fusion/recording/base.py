"""What every recording can do, whatever its format, and how the reader of a format is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.time_range import TimeRange
from fusion.task import Task
from fusion.types import AudioChunk, Float64Array, Image, Modality, Payload, PointCloud, Reading, Truth

GROUP = "fusion.readers"
"""Entry points of this group name classes that fulfil `ReaderType`."""
_GAP_FACTOR = 1.5

EMPTY: Mapping[Modality, Payload] = {
    Modality.CAMERA: Image(np.zeros((0, 0, 3), np.uint8)),
    Modality.LIDAR: PointCloud(np.zeros((0, 4), np.float32)),
    Modality.SPEECH: AudioChunk(np.zeros(0, np.int16), 1),
}
"""What stands for a payload that was not asked for."""


@dataclass(frozen=True, slots=True)
class TimeGap:
    """A stretch in which a sensor said nothing: between which two readings, and about how many are missing."""

    after_ns: int
    before_ns: int
    missing: int


@dataclass(frozen=True, slots=True)
class SensorInfo:
    """One sensor of a recording. `rate_hz` comes from the median interval, 0 for fewer than two readings."""

    modality: Modality
    source: str
    count: int
    first_ns: int
    last_ns: int
    rate_hz: float
    gaps: tuple[TimeGap, ...]

    @classmethod
    def of_times(cls, modality: Modality, source: str, times_ns: ArrayLike, *, continuous: bool = True) -> Self:
        """Summarise a sensor by its readings' times, in any order.

        A gap is 1.5 median intervals or longer; readings that do not follow each other have none.
        """
        times = np.sort(np.asarray(times_ns, np.int64))
        steps = np.diff(times)
        interval = float(np.median(steps)) if steps.size else 0.0
        gaps: tuple[TimeGap, ...] = ()
        if interval > 0 and continuous:
            wide = np.nonzero(steps >= _GAP_FACTOR * interval)[0]
            gaps = tuple(
                TimeGap(int(times[i]), int(times[i + 1]), max(1, round(steps[i] / interval) - 1)) for i in wide
            )
        first, last = (int(times[0]), int(times[-1])) if times.size else (0, 0)
        return cls(modality, source, int(times.size), first, last, 1e9 / interval if interval > 0 else 0.0, gaps)


@dataclass(frozen=True, slots=True, eq=False)
class RecordingInfo:
    """What a recording holds.

    `content_sha256` is what ids are made from. `notes` are remarks of whoever wrote it (`times` says so when
    capture times are nominal). `unread` are topics no reading is made of. `damage` is empty for a whole
    recording; of a salvaged one it says what is lost. `continuous` says whether readings follow each other in
    time, so that tracking means something: nominal times alone do not speak against it.
    """

    path: Path
    format: str
    content_sha256: str
    byte_size: int
    task: str
    sensors: Mapping[str, SensorInfo]
    rig: Rig | None
    truths: int
    notes: Mapping[str, str]
    unread: tuple[str, ...] = ()
    damage: str = ""
    continuous: bool = True

    @property
    def duration_ns(self) -> int:
        """From the first reading of any sensor to the last."""
        spans = [s for s in self.sensors.values() if s.count]
        return max(s.last_ns for s in spans) - min(s.first_ns for s in spans) if spans else 0


class RecordingReader(Protocol):
    """An open recording. Every method may be called again, and each iterator is independent of the others."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    def info(self) -> RecordingInfo:
        """What the recording holds; the whole file is read once for its hash."""

    def sizes(self) -> Mapping[str, int]:
        """Stored bytes by sensor, before any container's compression. Reads and checks the whole recording."""

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Readings in the recording's own order with their cursors, which rise strictly and start at 1.

        Everything up to and including `start_cursor` is passed over cheaply, so that reading goes on where a
        cursor was kept. Memory is bounded by one chunk. Raises `RecordingError` where the recording is bad.
        """

    def truth(self) -> Iterator[Truth]:
        """The truth of each moment that has one, in the recording's own order."""


@dataclass(frozen=True, slots=True, eq=False)
class EgoPose:
    """Where the ego frame was at a time: `map_from_ego` (4, 4), metres, in a frame that does not move."""

    time_ns: int
    map_from_ego: Float64Array


@runtime_checkable
class PosedReader(Protocol):
    """A reader whose recording may also tell how the device moved."""

    def poses(self) -> Iterator[EgoPose]:
        """Where the ego frame was, in time order; nothing when it is not told. Raises `RecordingError`."""


@runtime_checkable
class NamedReader(Protocol):
    """A reader whose data set may have names of its own for its moments."""

    def names(self) -> Mapping[int, str]:
        """By time: a picture's file (COCO, image folders), a frame (KITTI), a keyframe's sample token (nuScenes).

        Empty when it has none.
        """


@runtime_checkable
class IndexedReader(Protocol):
    """A reader that knows when each sensor delivered without opening what it delivered."""

    def stamps(self) -> Iterator[tuple[int, Reading]]:
        """As `readings()` of a sound recording, but with empty payloads."""


@runtime_checkable
class RangedReader(Protocol):
    """A reader that passes over what lies outside a stretch of time without decoding it."""

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings(start_cursor)` captured in `times`; with `empty`, their payloads are, and cost nothing."""

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""


class ReaderType(Protocol):
    """What an entry point of the group `fusion.readers` must name."""

    @staticmethod
    def can_read(path: Path) -> bool:
        """Whether `path` looks like this reader's format; never raises."""

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> RecordingReader:
        """Open `path`; raises `RecordingError` at once where the container is damaged."""


def open_recording(
    path: Path, task: Task | None = None, split: str | None = None, *, salvage: bool = False
) -> RecordingReader:
    """Open a recording of any known format.

    `task` and `split` are needed by image folders; a `task` given for another format must share a sensor with it.
    With `salvage` a damaged recording yields what is sound before the damage instead of an error.
    """
    return find_reader(path).open(path, task, split, salvage=salvage)


def find_reader(path: Path) -> ReaderType:
    """The reader of the format `path` is in; raises `RecordingError` naming the known ones when there is none."""
    if not path.exists():
        raise RecordingError(f"{path}: no such file or folder; give the path of a recording")
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in found:
        reader = _load(point)
        if reader.can_read(path):
            return reader
    known = ", ".join(point.name for point in found) or "none"
    raise RecordingError(f"{path}: not a recording of a known format; known formats: {known}")


def _load(point: EntryPoint) -> ReaderType:
    try:
        reader: ReaderType = point.load()
    except (ImportError, AttributeError) as error:
        raise RecordingError(f"reader '{point.name}' ({point.value}) cannot be loaded: {error}") from None
    return reader
