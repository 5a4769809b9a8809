"""A sensor that a test plays: `fake://NAME` is the stage of that name."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Self
from urllib.parse import urlsplit

from edge_node.live.drivers import WAIT_S, Mount, shown
from fusion.errors import SensorError
from fusion.types import Modality, Payload, Reading


@dataclass(slots=True)
class Stage:
    """What the sensor does: `there` or not, payloads or a `SensorError` in `script`, None for the stream's end."""

    there: bool = True
    opened: int = 0
    closed: int = 0
    script: queue.Queue[Payload | SensorError | None] = field(default_factory=queue.Queue)


class FakeDriver:
    """Delivers what the stage of its URL has."""

    modality = Modality.CAMERA
    stages: ClassVar[dict[str, Stage]] = {}

    def __init__(self, stage: Stage, mount: Mount) -> None:
        self._stage, self._mount, self._closed = stage, mount, False

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Raises `SensorError` where the stage is missing or its sensor is not there."""
        stage = cls.stages.get(urlsplit(url).netloc)
        if stage is None or not stage.there:
            raise SensorError(f"{shown(url)}: no such device")
        stage.opened += 1
        return cls(stage, mount)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`."""
        while not self._closed:
            try:
                given = self._stage.script.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            if given is None:
                return
            if isinstance(given, SensorError):
                raise given
            yield self._mount.reading(self._mount.now_ns(), given)

    def close(self) -> None:
        """See `Driver`."""
        self._stage.closed += not self._closed
        self._closed = True


class FakeLidarDriver(FakeDriver):
    """The same for sweeps: `fake-lidar://NAME`."""

    modality = Modality.LIDAR
