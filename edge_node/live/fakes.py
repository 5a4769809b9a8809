"""A sensor, a trigger or odometry that a test plays: `fake://NAME` is the stage of that name."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from edge_node.live.drivers import WAIT_S, Mount, shown
from fusion.errors import SensorError
from fusion.recording.base import EgoPose
from fusion.types import Modality, Reading


@dataclass(slots=True)
class Stage:
    """What it does: `there` or not; payloads, poses or a `SensorError` in `script`, None for the stream's end."""

    there: bool = True
    opened: int = 0
    closed: int = 0
    script: queue.Queue[Any] = field(default_factory=queue.Queue)

    def given(self, closed: Callable[[], bool]) -> Iterator[Any]:
        """What the script has, as it comes, until its end or `closed`."""
        while not closed():
            try:
                given = self.script.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            if given is None:
                return
            if isinstance(given, SensorError):
                raise given
            yield given


class FakeDriver:
    """Delivers what the stage of its URL has."""

    modality = Modality.CAMERA
    stages: ClassVar[dict[str, Stage]] = {}

    def __init__(self, stage: Stage, mount: Mount) -> None:
        self._stage, self._mount, self._closed = stage, mount, False

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Raises `SensorError` where the stage is missing or its sensor is not there."""
        return cls(_stage(url), mount)

    def readings(self) -> Iterator[Reading]:
        """See `Driver`."""
        for payload in self._stage.given(lambda: self._closed):
            yield self._mount.reading(self._mount.now_ns(), payload)

    def close(self) -> None:
        """See `Driver`."""
        self._stage.closed += not self._closed
        self._closed = True


class FakeLidarDriver(FakeDriver):
    """The same for sweeps: `fake-lidar://NAME`."""

    modality = Modality.LIDAR


class FakeOdometry:
    """Delivers the poses that the stage of its URL has."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._closed = stage, False

    @classmethod
    def open(cls, url: str, _now_ns: Callable[[], int], _dropped: Callable[[str, int], None]) -> Self:
        """Raises `SensorError` where the stage is missing or its odometry is not there."""
        return cls(_stage(url))

    def poses(self) -> Iterator[EgoPose]:
        """See `Odometry`."""
        yield from self._stage.given(lambda: self._closed)

    def close(self) -> None:
        """See `Odometry`."""
        self._stage.closed += not self._closed
        self._closed = True


class FakeTrigger:
    """A part for each entry of the stage's script: `fake://NAME`; None and errors are as those of sensors."""

    def __init__(self, stage: Stage, now_ns: Callable[[], int]) -> None:
        self._stage, self._now_ns, self._closed = stage, now_ns, False

    @classmethod
    def open(cls, url: str, now_ns: Callable[[], int]) -> Self:
        """Raises `SensorError` where the stage is missing or its trigger is not there."""
        return cls(_stage(url), now_ns)

    def events(self) -> Iterator[int]:
        """See `Trigger`."""
        for _ in self._stage.given(lambda: self._closed):
            yield self._now_ns()

    def close(self) -> None:
        """See `Trigger`."""
        self._stage.closed += not self._closed
        self._closed = True


def _stage(url: str) -> Stage:
    stage = FakeDriver.stages.get(urlsplit(url).netloc)
    if stage is None or not stage.there:
        raise SensorError(f"{shown(url)}: no such device")
    stage.opened += 1
    return stage
