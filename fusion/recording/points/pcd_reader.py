"""PCD files as recordings: one file, or a folder of them as the sweeps of one LiDAR."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.content import check_request, content_of
from fusion.recording.points.pcd import PcdHeader, read_header, read_points
from fusion.recording.points.point_fields import FieldRule, find_fields, full_scale, start_ns, sweep_of
from fusion.task import Task
from fusion.types import Float64Array, Modality, PointCloud, Reading, Truth

SENSOR = "lidar"
NOMINAL_HZ = 10
_SECONDS = re.compile(r"(?:.*\D)?([1-9]\d{8,9})([._])(\d{1,9})")
_FLOAT_DIGITS = 7
"""The most decimals that a float64 of seconds since 1970 is written with."""
_UNITS = ((re.compile(r"(?:.*\D)?([1-9]\d{17,18})"), 1), (re.compile(r"(?:.*\D)?([1-9]\d{14,15})"), 1000))


class PcdReader:
    """Reads the `.pcd` files of a folder in the order of their names, or a single one.

    Times come from the files' names where all of them are times since 1970, else from the points' own where these
    are; otherwise they are NOMINAL, sweep i (from 0) at i / 10 s, and `info().notes["times"]` says so. A cursor is a
    file's number, from 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = [path] if path.is_file() else pcd_files(path)
        if not self._files:
            raise RecordingError(f"{path}: no .pcd files in it")

    @staticmethod
    def can_read(path: Path) -> bool:
        """A `.pcd` file, or a folder with some."""
        return path.suffix == ".pcd" if path.is_file() else bool(pcd_files(path))

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Open `path`; raises `RecordingError` where a header is malformed."""
        del salvage  # each file stands for itself
        check_request(path, "a PCD recording", {SENSOR}, task, split)
        reader = cls(path)
        _ = reader._headers
        return reader

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self._path

    @property
    def times_ns(self) -> list[int]:
        """Capture times of the files, in their order. Raises `RecordingError`."""
        return self._times[0]

    @cached_property
    def _headers(self) -> list[PcdHeader]:
        return [read_header(path) for path in self._files]

    @cached_property
    def _rule(self) -> FieldRule:
        return field_rule(self._files[0])

    @cached_property
    def _times(self) -> tuple[list[int], str]:
        """Capture times, and where they come from (`nominal` is the word that counts)."""
        named = times_in([path.stem for path in self._files])
        known = [time for time in named if time is not None]
        if len(known) == len(named) and len(set(known)) == len(known):
            return known, ""
        measured = [self._start_of(path) for path in self._files] if self._rule.time else [None]
        known = [time for time in measured if time is not None]
        if len(known) == len(self._files):
            return known, ""
        nominal = [i * 1_000_000_000 // NOMINAL_HZ for i in range(len(self._files))]
        return nominal, f"nominal: {NOMINAL_HZ} Hz, neither names nor points tell any"

    def info(self) -> RecordingInfo:
        """What the files hold; each is read once."""
        times, nominal = self._times
        digest, size = content_of(self._path, self._files)
        points = dropped = 0
        for path, time_ns in zip(self._files, times, strict=True):
            cloud, lost = read_sweep(path, self._rule, time_ns)
            points, dropped = points + len(cloud.points) + lost, dropped + lost
        ego_from_lidar, frames = self._viewpoint()
        notes = {"frames": frames, f"intensity of {SENSOR}": str(self._rule)}
        if nominal:
            notes["times"] = nominal
        if dropped:
            notes[f"no returns of {SENSOR}"] = f"{dropped} of {points} points left out (zero or not finite)"
        return RecordingInfo(
            path=self._path,
            format="pcd",
            content_sha256=digest,
            byte_size=size,
            task="",
            sensors={SENSOR: SensorInfo.of_times(Modality.LIDAR, "*.pcd", times)},
            rig=None if ego_from_lidar is None else Rig({}, {SENSOR: ego_from_lidar}),
            truths=0,
            notes=notes,
            continuous=not nominal,
        )

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the files."""
        return {SENSOR: sum(path.stat().st_size for path in self._files)}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The sweeps in the order of the files' names; files up to `start_cursor` are not read."""
        times = self.times_ns
        start = max(0, start_cursor)
        for index, path in enumerate(self._files[start:], start):
            cloud, _ = read_sweep(path, self._rule, times[index])
            yield index + 1, Reading(SENSOR, Modality.LIDAR, times[index], cloud)

    def truth(self) -> Iterator[Truth]:
        """Nothing: the files carry no truth."""
        return iter(())

    def _start_of(self, path: Path) -> int | None:
        return start_ns(read_points(path, [self._rule.time])[self._rule.time])

    def _viewpoint(self) -> tuple[Float64Array | None, str]:
        first = self._headers[0].viewpoint
        if not all(np.array_equal(header.viewpoint, first) for header in self._headers):
            return None, "the viewpoint moves from file to file: a pose in some map, which is no rig"
        if np.array_equal(first, np.eye(4)):
            return first, "ego is the sensor's own frame"
        return first, "ego is the frame of the files' viewpoint"


def pcd_files(folder: Path) -> list[Path]:
    """The `.pcd` files of a folder in the order of the times in their names, else of the numbers in them."""
    found = [path for path in folder.glob("*.pcd") if path.is_file()]
    times = dict(zip(found, times_in([path.stem for path in found]), strict=True))
    if None not in times.values():
        return sorted(found, key=lambda path: (times[path], path.name))
    return sorted(found, key=lambda path: ([int(number) for number in re.findall(r"\d+", path.stem)], path.name))


def field_rule(path: Path) -> FieldRule:
    """How the sweeps of a sensor are read, judged by its first file. Raises `RecordingError`."""
    try:
        rule = find_fields(read_header(path).names)
    except InputError as error:
        raise RecordingError(f"{path}: {error}") from None
    if not rule.intensity:
        return rule
    return replace(rule, full=full_scale(read_points(path, [rule.intensity])[rule.intensity]))


def read_sweep(path: Path, rule: FieldRule, time_ns: int) -> tuple[PointCloud, int]:
    """The sweep of a file, and how many of its points were dropped for being no return. Raises `RecordingError`."""
    return sweep_of(read_points(path, rule.used), rule, time_ns)


def times_in(names: Sequence[str]) -> list[int | None]:
    """`time_in` of the names of one folder.

    What follows `SECONDS_` are nanoseconds written without leading zeros, if the numbers differ in length, none begins
    with 0, and one has more digits than decimals of a float have; else decimals.
    """
    matches = (_SECONDS.fullmatch(name) for name in names)
    parts = [match[3] for match in matches if match and match[2] == "_"]
    lengths = {len(part) for part in parts}
    padded = any(part[0] == "0" and len(part) > 1 for part in parts)
    unpadded = len(lengths) > 1 and max(lengths) > _FLOAT_DIGITS and not padded
    return [time_in(name, unpadded=unpadded) for name in names]


def time_in(name: str, *, unpadded: bool = False) -> int | None:
    """Nanoseconds since 1970 in a file's name, None without: `1700000000.25`, or so many nano- or microseconds.

    With `unpadded`, `1700000000_25` is of 25 ns, not of 0.25 s.
    """
    if match := _SECONDS.fullmatch(name):
        digits = match[3] if unpadded and match[2] == "_" else match[3].ljust(9, "0")
        return int(match[1]) * 1_000_000_000 + int(digits)
    for pattern, unit in _UNITS:
        if match := pattern.fullmatch(name):
            return int(match[1]) * unit
    return None
