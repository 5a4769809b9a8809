"""Datasets whose readings are files of their own: a plan of what lies where, and one reader of any such plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.preparation import decode_image, read_header
from fusion.recording.base import EMPTY, EgoPose, RecordingInfo, SensorInfo
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.types import Image, Modality, Payload, Reading, Truth

DRIVING = "driving"
"""The task that recordings of road traffic are for."""
_SAID = 3
_HEADER_BYTES = 1 << 10

Report: TypeAlias = Callable[[str], None]
"""Where damage goes that a salvaged dataset can do without: `refuse` raises, a list's `append` goes on."""
Loader: TypeAlias = Callable[[tuple[Path, ...], Report], Payload | None]
"""Makes a payload of a reading's files; None where nothing of it is sound."""
Sound: TypeAlias = Callable[[Path], bool]
"""Whether the reading that a file is of can be used: always, unless salvaging."""
Labels: TypeAlias = Callable[[Sound, Report], Iterator[Truth]]
"""Makes the labelled moments anew: without those whose picture is not sound, and those whose labels are reported."""


def refuse(problem: str) -> None:
    """Raise `problem` as a `RecordingError`."""
    raise RecordingError(problem)


def read_file(path: Path) -> bytes:
    """All of a file; raises `RecordingError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None


def load_picture(files: tuple[Path, ...], report: Report) -> Image | None:
    """The picture of a file, which keeps its own bytes."""
    try:
        return decode_image(read_file(files[0]))
    except RecordingError as error:
        report(str(error))
    except InputError as error:
        report(f"{files[0]}: {error}")
    return None


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a picture file, from its first bytes where they tell. Raises `RecordingError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
            try:
                header = read_header(data)
            except InputError:
                header = read_header(data + file.read())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError as error:
        raise RecordingError(f"{path}: {error}") from None
    return header.width, header.height


@dataclass(frozen=True, slots=True)
class StoredReading:
    """One reading: when, of which sensor, and its files, of which the first holds the measurement itself."""

    time_ns: int
    sensor: str
    modality: Modality
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The plan of a dataset: everything that is known of it before its large files are opened.

    `readings` are in capture order, LiDAR first at equal times; `loaders` and `sources` go by sensor. `truth` gives
    `truths` moments where everything is sound. `side_files` are the other files the plan was made from; with
    them `facts` stands for what was picked from files that hold more than this recording. `problems` were met while
    the plan was made. `names` are what the data set calls its moments, by time. The rest is as in `RecordingInfo`.
    """

    path: Path
    format: str
    readings: tuple[StoredReading, ...]
    loaders: Mapping[str, Loader]
    sources: Mapping[str, str]
    rig: Rig | None
    truth: Labels
    truths: int
    notes: Mapping[str, str]
    side_files: tuple[Path, ...] = ()
    facts: str = ""
    unread: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    continuous: bool = True
    task: str = DRIVING
    names: Mapping[int, str] = field(default_factory=dict)
    poses: Callable[[], Iterator[EgoPose]] = field(default=lambda: iter(()))


class DatasetReader:
    """Reads a `Dataset`; a cursor is the number of a reading in it, from 1.

    With `salvage`, points that are not finite, the rest of a scan that is cut short, files that cannot be decoded, the
    labels of pictures that are left out, and malformed labels are left out, and `info().damage` says what; otherwise
    they are errors that name the file.
    """

    def __init__(self, dataset: Dataset, *, salvage: bool) -> None:
        self._dataset = dataset
        self._salvage = salvage

    @property
    def path(self) -> Path:
        """The folder."""
        return self._dataset.path

    def info(self) -> RecordingInfo:
        """What the dataset holds; its hash covers names and bytes of all files. A salvaged one is checked, too."""
        plan = self._dataset
        digest, size = self._content
        return RecordingInfo(
            path=plan.path,
            format=plan.format,
            content_sha256=digest,
            byte_size=size,
            task=plan.task,
            sensors=self._sensors(),
            rig=plan.rig,
            truths=self._labelled[0] if self._salvage else plan.truths,
            notes=plan.notes,
            unread=plan.unread,
            damage=_summary(self._checked[1] + self._labelled[1]) if self._salvage else "",
            continuous=plan.continuous,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each sensor's files; each is read and decoded on the way."""
        found = dict.fromkeys(self._dataset.sources, 0)
        for stored in self._checked[0]:
            found[stored.sensor] += sum(path.stat().st_size for path in stored.files)
        return found

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """Readings in capture order, one in memory at a time."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`; other files are not opened."""
        report = self._report([])
        for cursor, stored in self._stored(max(0, start_cursor), sound=empty):
            if times.covers(stored.time_ns):
                loader = self._dataset.loaders[stored.sensor]
                payload = EMPTY[stored.modality] if empty else loader(stored.files, report)
                if payload is not None:
                    yield cursor, Reading(stored.sensor, stored.modality, stored.time_ns, payload)

    def stamps(self) -> Iterator[tuple[int, Reading]]:
        """Cursors, sensors and times in capture order with empty payloads; no file is opened."""
        for cursor, stored in enumerate(self._dataset.readings, 1):
            yield cursor, Reading(stored.sensor, stored.modality, stored.time_ns, EMPTY[stored.modality])

    def truth(self) -> Iterator[Truth]:
        """The labelled moments in time order."""
        return self._dataset.truth(self._sound, self._report([]))

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""
        return (moment for moment in self.truth() if times.covers(moment.time_ns))

    def poses(self) -> Iterator[EgoPose]:
        """Where the ego frame was; nothing when the dataset does not tell."""
        return self._dataset.poses()

    def _stored(self, start: int, *, sound: bool) -> Iterator[tuple[int, StoredReading]]:
        """What is stored after `start` by cursor; of a salvaged dataset only what is `sound`, if that is asked for."""
        known = set(self._checked[0]) if sound and self._salvage else None
        for cursor in range(start + 1, len(self._dataset.readings) + 1):
            stored = self._dataset.readings[cursor - 1]
            if known is None or stored in known:
                yield cursor, stored

    def names(self) -> Mapping[int, str]:
        """See `fusion.recording.base.NamedReader.names`."""
        return self._dataset.names

    def _sensors(self) -> dict[str, SensorInfo]:
        plan = self._dataset
        times: dict[str, list[int]] = {name: [] for name in plan.sources}
        kinds: dict[str, Modality] = {}
        for stored in self._checked[0] if self._salvage else plan.readings:
            times[stored.sensor].append(stored.time_ns)
            kinds[stored.sensor] = stored.modality
        found = {
            name: SensorInfo.of_times(kinds[name], plan.sources[name], told, continuous=plan.continuous)
            for name, told in times.items()
            if told
        }
        return dict(sorted(found.items(), key=lambda pair: (list(Modality).index(pair[1].modality), pair[0])))

    @cached_property
    def _content(self) -> tuple[str, int]:
        plan = self._dataset
        digest, size = hashlib.sha256(plan.facts.encode()), 0
        for path in (*plan.side_files, *(path for stored in plan.readings for path in stored.files)):
            data = read_file(path)
            name = path.relative_to(plan.path).as_posix() if path.is_relative_to(plan.path) else path.name
            digest.update(f"{name} {len(data)}\n".encode() + data)
            size += len(data)
        return digest.hexdigest(), size

    @cached_property
    def _checked(self) -> tuple[list[StoredReading], list[str]]:
        """The readings of which something is sound, and what is wrong; the first fault is raised unless salvaging."""
        problems = list(self._dataset.problems)
        report, loaders = self._report(problems), self._dataset.loaders
        sound = [one for one in self._dataset.readings if loaders[one.sensor](one.files, report) is not None]
        return sound, problems

    @cached_property
    def _labelled(self) -> tuple[int, list[str]]:
        """How many labelled moments are sound, and what is wrong with others."""
        problems: list[str] = []
        return sum(1 for _ in self._dataset.truth(self._sound, self._report(problems))), problems

    @cached_property
    def _sound_files(self) -> frozenset[Path]:
        return frozenset(one.files[0] for one in self._checked[0])

    def _sound(self, file: Path) -> bool:
        return not self._salvage or file in self._sound_files

    def _report(self, found: list[str]) -> Report:
        return found.append if self._salvage else refuse


def capture_order(readings: Iterable[StoredReading]) -> tuple[StoredReading, ...]:
    """By time; at equal times the sweep comes first, because cameras are triggered when it passes them."""
    return tuple(sorted(readings, key=lambda r: (r.time_ns, r.modality is not Modality.LIDAR, r.sensor)))


def _summary(problems: list[str]) -> str:
    more = f"; and {len(problems) - _SAID} more" if len(problems) > _SAID else ""
    return "; ".join(problems[:_SAID]) + more
