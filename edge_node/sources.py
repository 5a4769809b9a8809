"""Where readings come from. A source is found by name through the entry-point group `fusion.sources`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Protocol, Self, cast

from edge_node.config import SourceSettings
from fusion.errors import ConfigError
from fusion.geometry import Rig
from fusion.recording.base import RecordingReader, open_recording
from fusion.task import Task
from fusion.types import Reading

ENTRY_POINTS = "fusion.sources"


class Source(Protocol):
    """A stream of readings with positions, so that a restarted daemon can go on.

    `content` stands for what is read, the same text for the same content: ids hang on it together with the
    position. `continuous` says whether frames follow each other in time, so that tracking means something.
    `sensors` are the ones that deliver, `rig` says where they sit, None where that is not known.
    """

    content: str
    continuous: bool
    sensors: frozenset[str]
    rig: Rig | None

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        """(position after it, reading) of everything after position `cursor`, in a fixed order.

        Positions count from 1 and rise. Raises `RecordingError`.
        """


class SourceClass(Protocol):
    """What an entry point of the group names."""

    def open(self, settings: SourceSettings, task: Task) -> Source:
        """Open it. Raises `FusionError` naming what is wrong."""


def open_source(settings: SourceSettings, task: Task) -> Source:
    """The source that `settings.kind` names. Raises `ConfigError` for an unknown kind."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if settings.kind not in found:
        raise ConfigError(f"source.kind: no source is called {settings.kind!r}; known: {', '.join(sorted(found))}")
    try:
        kind = cast("SourceClass", found[settings.kind].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"source.kind: {settings.kind!r} cannot be imported: {error}") from None
    return kind.open(settings, task)


class RecordingSource:
    """A recording of any known format, from its file."""

    def __init__(self, reader: RecordingReader) -> None:
        info = reader.info()
        self.content = info.content_sha256
        self.continuous = info.continuous
        self.sensors = frozenset(name for name, sensor in info.sensors.items() if sensor.count)
        self.rig = info.rig
        self._reader = reader

    @classmethod
    def open(cls, settings: SourceSettings, task: Task) -> Self:
        """Open `settings.path`. Raises `RecordingError` naming the file and what is wrong with it."""
        return cls(open_recording(settings.path, task, settings.split or None))

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        """Readings after `cursor`, in the recording's own order."""
        return self._reader.readings(cursor)
