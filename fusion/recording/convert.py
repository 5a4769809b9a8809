"""Any recording that can be read becomes a native one."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from fusion.errors import RecordingError
from fusion.recording.base import EgoPose, PosedReader, RecordingInfo, RecordingReader, find_reader
from fusion.recording.native.reader import McapReader
from fusion.recording.native.recover import Recovery, recover_recording
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.types import AudioChunk, Image, Reading, Truth

Event = TypeVar("Event", Reading, Truth, EgoPose)


@dataclass(slots=True)
class Conversion:
    """What was brought over: readings by sensor, labelled moments, poses; `str()` is one line.

    `notes` are those of the new recording, `damage` says what a salvaged source lacks, and `late` how many readings
    by sensor were left out for being older than the one before them.
    """

    path: Path
    format: str
    notes: dict[str, str]
    damage: str = ""
    readings: Counter[str] = field(default_factory=Counter)
    truths: int = 0
    poses: int = 0
    late: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        readings = ", ".join(f"{count} of {sensor}" for sensor, count in sorted(self.readings.items()))
        parts = [f"{self.path}: from {self.format}, readings: {readings}"]
        parts += [f"truth for {self.truths} moments"] if self.truths else []
        parts += [f"{self.poses} poses"] if self.poses else []
        parts += [f"times {self.notes['times']}"] if "times" in self.notes else []
        parts += [f"LEFT OUT, as older than the one before: {dict(self.late)}"] if self.late else []
        return "; ".join(parts + ([f"SALVAGED: {self.damage}"] if self.damage else []))


def convert(
    source: Path, out: Path, task: Task | None = None, split: str | None = None, *, salvage: bool = False
) -> Conversion | Recovery:
    """Write the recording `source`, of any format a reader is found for, as the native recording `out`.

    An MCAP file in the native schemas is recovered instead: copied message by message but for what is damaged. Of
    other formats everything their reader gives is kept: readings, rig, truth, poses, notes. Pictures keep their own
    bytes; those that have none become JPEGs. Memory is bounded by the reader's and one chunk. Raises
    `RecordingError`, also for a reading older than the one before it of its sensor; with `salvage`, such readings and
    what is damaged are left out, and told.
    """
    if source.resolve() == out.resolve():
        raise RecordingError(f"{out}: is the source itself; give another name")
    kind = find_reader(source)
    if kind is McapReader and task is None and split is None:
        return recover_recording(source, out)
    reader = kind.open(source, task, split, salvage=salvage)
    info = reader.info()
    done = Conversion(out, info.format, _notes(info), info.damage)
    task_name = task.name if task else info.task
    with RecordingWriter(out, info.rig, task_name, notes=done.notes, continuous=info.continuous) as writer:
        for event in _progress(_events(reader, done, salvage=salvage), info, out):
            _write(writer, event, done)
    return done


def _notes(info: RecordingInfo) -> dict[str, str]:
    """The source's own notes, and where they come from."""
    known = {"source": f"{info.format} {info.path.name}", "source-sha256": info.content_sha256} | dict(info.notes)
    known |= {"source-format": info.format}
    known |= {"not-carried": ", ".join(info.unread)} if info.unread else {}
    return known | ({"source-damage": info.damage} if info.damage else {})


def _events(reader: RecordingReader, done: Conversion, *, salvage: bool) -> Iterator[Reading | Truth | EgoPose]:
    """Everything in the order of time; at equal times readings, then truth, then poses."""
    late = done.late if salvage else None
    poses = reader.poses() if isinstance(reader, PosedReader) else iter(())
    return heapq.merge(
        _in_order(reader.path, (reading for _, reading in reader.readings()), late),
        _in_order(reader.path, reader.truth(), late),
        _in_order(reader.path, poses, late),
        key=_time_ns,
    )


def _in_order(path: Path, events: Iterator[Event], late: Counter[str] | None) -> Iterator[Event]:
    """The events of which none is older than the one before it of its channel; others are counted in `late`, if any."""
    latest: dict[str, int] = {}
    for event in events:
        channel, time_ns = _channel(event), _time_ns(event)
        if time_ns >= latest.get(channel, time_ns):
            latest[channel] = time_ns
            yield event
        elif late is None:
            raise RecordingError(
                f"{path}: {channel} at {time_ns} ns comes after {channel} at {latest[channel]} ns; salvaging leaves "
                "out what is too old"
            )
        else:
            late[channel] += 1


def _channel(event: Reading | Truth | EgoPose) -> str:
    return event.sensor if isinstance(event, Reading) else "truth" if isinstance(event, Truth) else "pose"


def _time_ns(event: Reading | Truth | EgoPose) -> int:
    return event.capture_time_ns if isinstance(event, Reading) else event.time_ns


def _progress(
    events: Iterator[Reading | Truth | EgoPose], info: RecordingInfo, out: Path
) -> Iterator[Reading | Truth | EgoPose]:
    total = sum(sensor.count for sensor in info.sensors.values())
    with tqdm(total=total, desc=out.name, unit="reading", disable=None) as bar:
        for event in events:
            yield event
            bar.update(isinstance(event, Reading))


def _write(writer: RecordingWriter, event: Reading | Truth | EgoPose, done: Conversion) -> None:
    if isinstance(event, Truth):
        writer.truth(event)
        done.truths += 1
    elif isinstance(event, EgoPose):
        writer.pose(event)
        done.poses += 1
    else:
        name, time_ns, payload = event.sensor, event.capture_time_ns, event.payload
        if isinstance(payload, Image):
            writer.camera(name, time_ns, payload)
        elif isinstance(payload, AudioChunk):
            writer.audio(name, time_ns, payload)
        else:
            writer.lidar(name, time_ns, payload)
        done.readings[name] += 1
