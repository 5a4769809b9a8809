"""Which readings of a recording make which training frame, found before any of them is opened."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from fusion.errors import InputError
from fusion.recording.base import IndexedReader, RecordingInfo, RecordingReader
from fusion.synchronization import Aligned, Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import Gap, Modality, Reading, Truth

OLDEST_NS = 1_000_000_000
"""Readings older than this before a frame are not of it, neither as past sweeps nor as late ones."""
_SAME_NS = 1_000_000
_OTHER_CALIBRATION = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One reading by its `cursor`; `sensor` is the recording's name, which says whose calibration it has."""

    cursor: int
    time_ns: int
    sensor: str


@dataclass(frozen=True, slots=True, eq=False)
class PlannedFrame:
    """One moment: the reading of each of the task's sensors that is there, and the truth where there is one."""

    time_ns: int
    entries: Mapping[str, Entry]
    truth: Truth | None


@dataclass(frozen=True, slots=True, eq=False)
class DrivingPlan:
    """All frames of a recording. `series` has every reading of a sensor in time order.

    `continuous` is as in `RecordingInfo`. `unmatched` truths have no frame within a millisecond.
    """

    frames: tuple[PlannedFrame, ...]
    series: Mapping[str, tuple[Entry, ...]]
    continuous: bool
    unmatched: int

    def until(self, sensor: str, time_ns: int, count: int, frame: PlannedFrame) -> tuple[Entry, ...]:
        """The last `count` readings of a sensor up to `time_ns` that may count for `frame`, newest first.

        Where frames are independent there is only the frame's own reading.
        """
        if not self.continuous:
            own = frame.entries.get(sensor)
            return (own,) if own is not None and own.time_ns <= time_ns else ()
        known = self.series.get(sensor, ())
        end = bisect_right(known, time_ns, key=lambda entry: entry.time_ns)
        past = known[max(0, end - count) : end]
        return tuple(entry for entry in reversed(past) if entry.time_ns >= frame.time_ns - OLDEST_NS)

    def without(self, sensors: Collection[str]) -> DrivingPlan:
        """The same moments as if `sensors` had never delivered."""

        def kept(one: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in one.items() if name not in sensors}

        frames = tuple(replace(frame, entries=kept(frame.entries)) for frame in self.frames)
        return replace(self, frames=frames, series=kept(self.series))


def plan_frames(
    reader: RecordingReader, info: RecordingInfo, task: Task, *, every: bool = False, quiet: bool = False
) -> DrivingPlan:
    """The frames of a recording: of every moment that has truth in space, or, without any, of every reference reading.

    With `every` those of reference readings that nobody told the truth of count, too.

    The reference is the LiDAR where the task has several cameras, else the camera; of the two the one that is there.
    A camera of the recording that is called as one of the task with a number behind it (`left-2`) is that camera with
    another calibration. No progress is shown if `quiet`. Raises `InputError` when none of the task's cameras and LiDARs
    is in the recording.
    """
    names = {name: task_name(name, task) for name in info.sensors}
    sensors = {
        name: sensor.modality
        for name, sensor in task.sensors.items()
        if sensor.modality is not Modality.SPEECH and name in names.values()
    }
    if not sensors:
        raise InputError(f"{info.path}: no camera and no LiDAR of task {task.name} in it")
    settings = SynchronizerSettings(reference=_reference(sensors))
    if not info.continuous:
        settings = settings.model_copy(update={"late_ms": settings.present_ms})
    series: dict[str, list[Entry]] = {name: [] for name in sensors}
    synchronizer = Synchronizer(sensors, settings.reference, settings)
    aligned = list(_aligned(_stamps(reader, info, quiet), names, synchronizer, series))
    truths = list(_told(reader.truth()))
    entries = {name: {entry.time_ns: entry for entry in known} for name, known in series.items()}
    frames, unmatched = _chosen(aligned, truths, entries, every=every)
    ordered = {name: tuple(sorted(known, key=lambda entry: entry.time_ns)) for name, known in series.items()}
    return DrivingPlan(frames, ordered, info.continuous, unmatched)


def task_name(sensor: str, task: Task) -> str:
    """What the task calls a recording's sensor: `left` for `left-2`, if it has no `left-2` itself."""
    return sensor if sensor in task.sensors else _OTHER_CALIBRATION.sub("", sensor)


def _reference(sensors: Mapping[str, Modality]) -> str:
    cameras = [name for name, modality in sensors.items() if modality is Modality.CAMERA]
    lidars = [name for name, modality in sensors.items() if modality is Modality.LIDAR]
    return (lidars or cameras)[0] if len(cameras) > 1 else (cameras or lidars)[0]


def _stamps(reader: RecordingReader, info: RecordingInfo, quiet: bool) -> Iterator[tuple[int, Reading]]:
    if isinstance(reader, IndexedReader):
        yield from reader.stamps()
        return
    total = sum(sensor.count for sensor in info.sensors.values())
    yield from tqdm(reader.readings(), desc=f"times of {info.path.name}", total=total, unit="reading", disable=quiet)


def _aligned(
    stamps: Iterable[tuple[int, Reading]],
    names: Mapping[str, str],
    synchronizer: Synchronizer,
    series: Mapping[str, list[Entry]],
) -> Iterator[Aligned]:
    """What the synchronizer makes of the readings; `series` is filled on the way."""

    def frames(found: list[Aligned | Gap]) -> Iterator[Aligned]:
        return (one for one in found if isinstance(one, Aligned))

    for cursor, reading in stamps:
        name = names.get(reading.sensor, "")
        if synchronizer.sensors.get(name) is not reading.modality:
            continue
        series[name].append(Entry(cursor, reading.capture_time_ns, reading.sensor))
        yield from frames(synchronizer.push(cursor, replace(reading, sensor=name)))
    yield from frames(synchronizer.flush())


def _told(truths: Iterable[Truth]) -> Iterator[Truth]:
    """Those that tell what is in space: nothing at all, or boxes."""
    return (truth for truth in truths if not truth.objects or any(o.box3d is not None for o in truth.objects))


def _chosen(
    aligned: list[Aligned], truths: list[Truth], entries: Mapping[str, Mapping[int, Entry]], *, every: bool
) -> tuple[tuple[PlannedFrame, ...], int]:
    def planned(one: Aligned, truth: Truth | None) -> PlannedFrame:
        there = {n: slot.reading for n, slot in one.slots.items() if slot.reading is not None}
        return PlannedFrame(one.time_ns, {n: entries[n][r.capture_time_ns] for n, r in there.items()}, truth)

    if not truths:
        return tuple(planned(one, None) for one in aligned), 0
    by_time = sorted(aligned, key=lambda one: one.time_ns)
    found = []
    for truth in truths:
        place = bisect_right(by_time, truth.time_ns, key=lambda one: one.time_ns)
        near = min(
            by_time[max(0, place - 1) : place + 1], key=lambda one: abs(one.time_ns - truth.time_ns), default=None
        )
        if near is not None and abs(near.time_ns - truth.time_ns) <= _SAME_NS:
            found.append(planned(near, truth))
    unmatched = len(truths) - len(found)
    if every:
        told = {frame.time_ns for frame in found}
        found += [planned(one, None) for one in by_time if one.time_ns not in told]
        found.sort(key=lambda frame: frame.time_ns)
    return tuple(found), unmatched
