"""Sensors of a recording under the names a task has for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from fusion.errors import ConfigError, RecordingError
from fusion.geometry import Rig
from fusion.recording.base import EgoPose, RecordingInfo, RecordingReader
from fusion.recording.ranged import between, names_between, poses_between, truth_between
from fusion.recording.time_range import ALWAYS, TimeRange
from fusion.task import Task
from fusion.types import Reading, Truth


def read_mapping(given: tuple[str, ...], task: Task) -> dict[str, str]:
    """`SENSOR=TOPIC` texts as a table. Raises `ConfigError` for a sensor the task does not have, and for one twice."""
    found: dict[str, str] = {}
    for text in given:
        sensor, equals, topic = (part.strip() for part in text.partition("="))
        if not (sensor and equals and topic):
            raise ConfigError(f"--map {text}: give SENSOR=TOPIC, as in front=/camera/image_raw")
        if sensor not in task.sensors:
            has = ", ".join(task.sensors)
            raise ConfigError(f"--map {text}: task {task.name} has no sensor {sensor!r}; it has {has}")
        if sensor in found:
            raise ConfigError(f"--map {text}: sensor {sensor!r} is mapped twice")
        if topic in found.values():
            raise ConfigError(f"--map {text}: {topic!r} is mapped twice")
        found[sensor] = topic
    return found


class MappedReader:
    """Another reader with some of its sensors renamed: `mapping` names, by new name, a sensor or its topic.

    A sensor of the recording whose name is taken by another is left out. Raises `RecordingError` for a name that is
    none in the recording, and for a sensor of another modality than the task's.
    """

    def __init__(self, reader: RecordingReader, mapping: Mapping[str, str], task: Task) -> None:
        self._reader = reader
        info = reader.info()
        chosen = {new: _find(info, topic) for new, topic in mapping.items()}
        for new, old in chosen.items():
            wanted, there = task.sensors[new].modality, info.sensors[old].modality
            if wanted is not there:
                raise RecordingError(
                    f"{reader.path}: {mapping[new]} is a {there.value}, and {new} of task {task.name} a "
                    f"{wanted.value}; map it to a sensor of its kind"
                )
        if len(set(chosen.values())) < len(chosen):
            raise RecordingError(f"{reader.path}: one sensor is mapped to two of {', '.join(chosen)}")
        renamed = {old: new for new, old in chosen.items()}
        kept = (name for name in info.sensors if name not in renamed and name not in chosen)
        self._names = {**renamed, **{name: name for name in kept}}
        self._told = {f"mapped to {new}": f"{old} ({info.sensors[old].source})" for new, old in chosen.items()}

    @property
    def path(self) -> Path:
        """The recording's file or folder."""
        return self._reader.path

    @cached_property
    def _info(self) -> RecordingInfo:
        whole, names = self._reader.info(), self._names
        sensors = {names[name]: sensor for name, sensor in whole.sensors.items() if name in names}
        rig = whole.rig and Rig(
            {names[name]: camera for name, camera in whole.rig.cameras.items() if name in names},
            {names[name]: placed for name, placed in whole.rig.ego_from_lidar.items() if name in names},
        )
        return replace(whole, sensors=sensors, rig=rig, notes={**whole.notes, **self._told})

    def info(self) -> RecordingInfo:
        """That of the recording, with the new names; `notes` tell the old ones."""
        return self._info

    def sizes(self) -> Mapping[str, int]:
        """Stored bytes by new name."""
        return {self._names[name]: size for name, size in self._reader.sizes().items() if name in self._names}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """The recording's, with its cursors."""
        return self.between(ALWAYS, start_cursor)

    def between(self, times: TimeRange, start_cursor: int = 0, *, empty: bool = False) -> Iterator[tuple[int, Reading]]:
        """Those of `readings()` captured in `times`."""
        for cursor, reading in between(self._reader, times, start_cursor, empty=empty):
            name = self._names.get(reading.sensor)
            if name is not None:
                yield cursor, replace(reading, sensor=name)

    def truth(self) -> Iterator[Truth]:
        """The recording's."""
        return self._reader.truth()

    def truth_between(self, times: TimeRange) -> Iterator[Truth]:
        """Those of `truth()` in `times`."""
        return truth_between(self._reader, times)

    def poses(self) -> Iterator[EgoPose]:
        """The recording's; nothing when it tells none."""
        return poses_between(self._reader, ALWAYS)

    def names(self) -> Mapping[int, str]:
        """The recording's, by time; empty when it has none."""
        return names_between(self._reader, ALWAYS)


def _find(info: RecordingInfo, topic: str) -> str:
    for name, sensor in info.sensors.items():
        if topic in (name, sensor.source):
            return name
    there = ", ".join(f"{name} ({sensor.source})" for name, sensor in info.sensors.items()) or "none"
    unread = f"; not read: {', '.join(info.unread)}" if info.unread else ""
    raise RecordingError(f"{info.path}: no sensor or topic {topic!r} to map; there are: {there}{unread}")
