"""Stretches of time of any reader, cheap where it can pass over what lies outside."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace

from fusion.recording.base import (
    EMPTY,
    EgoPose,
    NamedReader,
    PosedReader,
    RangedReader,
    RecordingInfo,
    RecordingReader,
    SensorInfo,
)
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.types import Reading, Truth


def between(
    reader: RecordingReader, times: TimeRange, start_cursor: int = 0, *, empty: bool = False
) -> Iterator[tuple[int, Reading]]:
    """See `RangedReader.between`. A reader without it decodes what lies outside, too."""
    if isinstance(reader, RangedReader):
        yield from reader.between(times, start_cursor, empty=empty)
        return
    for cursor, reading in reader.readings(start_cursor):
        if times.covers(reading.capture_time_ns):
            yield cursor, replace(reading, payload=EMPTY[reading.modality]) if empty else reading


def truth_between(reader: RecordingReader, times: TimeRange) -> Iterator[Truth]:
    """See `RangedReader.truth_between`."""
    if isinstance(reader, RangedReader):
        return reader.truth_between(times)
    return (moment for moment in reader.truth() if times.covers(moment.time_ns))


def poses_between(reader: RecordingReader, times: TimeRange) -> Iterator[EgoPose]:
    """The poses of a reader in `times`; nothing when it tells none."""
    if isinstance(reader, PosedReader):
        yield from (pose for pose in reader.poses() if times.covers(pose.time_ns))


def names_between(reader: RecordingReader, times: TimeRange) -> Mapping[int, str]:
    """The names that a reader has for moments in `times`; empty when it has none."""
    names = reader.names() if isinstance(reader, NamedReader) else {}
    return {time_ns: name for time_ns, name in names.items() if times.covers(time_ns)}


def sensors_between(
    reader: RecordingReader, info: RecordingInfo, times: TimeRange = ALWAYS
) -> Mapping[str, SensorInfo]:
    """`info.sensors` of `times` alone, counted by capture times; 8 bytes a reading are held meanwhile.

    A salvaged recording is decoded, for what cannot be is not counted.
    """
    found = {name: array("q") for name in info.sensors}
    for _, reading in between(reader, times, empty=not info.damage):
        found[reading.sensor].append(reading.capture_time_ns)
    return {
        name: SensorInfo.of_times(known.modality, known.source, found[name], continuous=info.continuous)
        for name, known in info.sensors.items()
    }


def first_ns(info: RecordingInfo) -> int:
    """When the first reading of any sensor was captured; 0 of a recording without any."""
    return min((sensor.first_ns for sensor in info.sensors.values() if sensor.count), default=0)


def last_ns(info: RecordingInfo) -> int:
    """When the last reading of any sensor was captured; 0 of a recording without any."""
    return max((sensor.last_ns for sensor in info.sensors.values() if sensor.count), default=0)
