"""Live sensors as a source: each has a thread that opens it, passes on what it delivers, and opens it again."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from edge_node.config import LiveSensorSettings, SourceSettings
from edge_node.live.clock import ArrivalClock
from edge_node.live.drivers import Driver, DriverClass, Mount, driver_class, shown
from edge_node.live.handover import HandOver
from edge_node.live.health import SensorHealth
from fusion.clock import Clock, SystemClock
from fusion.errors import ConfigError, FusionError, SensorError
from fusion.geometry import Rig
from fusion.recording.base import open_recording
from fusion.task import Task
from fusion.types import AudioChunk, Image, Modality, PointCloud, Reading

DROP_LATE_S = 0.5
"""How old a reference frame may be when its turn comes, where `drop_late_s` does not say."""
STEADY_S = 5.0
"""A sensor that streamed that long and fails begins its back-off anew."""
_STEP_S = 0.1
_CLOSE_S = 2.0
_NO_PICTURE = Image(np.zeros((0, 0, 3), np.uint8))
_PAYLOADS = {Modality.CAMERA: Image, Modality.LIDAR: PointCloud, Modality.SPEECH: AudioChunk}
_log = logging.getLogger(__name__)


class LiveSource:
    """`sensors` by driver class. A live stream cannot be read twice, so `content` is new in each process.

    `content`, `continuous`, `sensors` and `rig` are those of `Source`. `declare` is what makes dropped frames gaps.
    """

    def __init__(
        self,
        sensors: Sequence[tuple[LiveSensorSettings, DriverClass]],
        task: Task,
        *,
        rig: Rig | None = None,
        drop_late_s: float = DROP_LATE_S,
        clock: Clock | None = None,
    ) -> None:
        self.content = secrets.token_hex(32)
        self.continuous = True
        self.sensors = frozenset(settings.name for settings, _ in sensors)
        self.rig = rig
        self._task = task
        self._clock = clock or SystemClock()
        self._arrival = ArrivalClock(self._clock)
        self._drop_late_s = drop_late_s
        self.healths = {s.name: SensorHealth(s.name, s.silent_s, self._clock) for s, _ in sensors}
        self._handover = HandOver(self.healths)
        self._due: dict[int, tuple[int, bool]] = {}
        self._asked = threading.Condition()
        self._stop = threading.Event()
        self._drivers: dict[str, Driver] = {}
        work: list[tuple[str, Callable[[], None]]] = [("sensors", self._watch)]
        work += [(f"sensor {s.name}", _bound(self._supervise, s, kind)) for s, kind in sensors]
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in work]

    @classmethod
    def open(cls, settings: SourceSettings, task: Task) -> Self:
        """Find a driver for each sensor. Raises `ConfigError` naming the sensor; no sensor need be there yet."""
        found = [(sensor, _driver_for(sensor, task)) for sensor in settings.sensors]
        rig = open_recording(settings.rig, task, None).info().rig if settings.rig else None
        if settings.rig and rig is None:
            raise ConfigError(f"source.rig: {settings.rig} has no calibration in it")
        return cls(found, task, rig=rig, drop_late_s=settings.drop_late_s or DROP_LATE_S)

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        """Readings in the order they arrived, numbered on from `cursor`; the first call starts the sensors.

        Ends after `close`, with what is held by then. A dropped frame of the reference sensor is an empty picture
        that `hold` refuses.
        """
        if not any(thread.ident for thread in self._threads):
            for thread in self._threads:
                thread.start()
        while True:
            self._let_the_last_frame_go()
            over = self._stop.is_set()
            handed = self._handover.take(0.0 if over else _STEP_S)
            if handed is None and over:
                return
            if handed is None:
                continue
            cursor += 1
            name, reading = self._handover.reference, handed.reading
            if reading is None:
                modality = self._task.sensors[name].modality
                reading = Reading(name, modality, handed.capture_time_ns, _NO_PICTURE)
            if reading.sensor == name:
                with self._asked:
                    self._due[reading.capture_time_ns] = handed.arrived_ns, handed.reading is None
            yield cursor, reading

    def declare(self, reference: str) -> None:
        """Make each dropped frame of `reference` a gap: whoever reads asks `hold` of each of its frames, once."""
        self._handover.reference = reference

    def hold(self, capture_time_ns: int) -> str:
        """Why the reference frame of that time is to be skipped; empty when it is to be processed."""
        with self._asked:
            arrived_ns, dropped = self._due.pop(capture_time_ns, (0, False))
            self._asked.notify()
        if dropped:
            return "overtaken by a newer frame"
        if arrived_ns and self._clock.monotonic_ns() - arrived_ns > self._drop_late_s * 1e9:
            self.healths[self._handover.reference].dropped("too late")
            return f"more than {self._drop_late_s:g} s behind"
        return ""

    def told(self) -> dict[str, dict[str, Any]]:
        """How each sensor stands, by name."""
        return {name: health.told() for name, health in self.healths.items()}

    def broken(self, sensor: str) -> bool:
        """Whether a sensor delivers nothing."""
        return sensor in self.healths and self.healths[sensor].broken

    def close(self) -> None:
        """Close every sensor; waits two seconds at most for their threads."""
        self._stop.set()
        for driver in list(self._drivers.values()):
            driver.close()
        ends = self._clock.monotonic_ns() + _CLOSE_S * 1e9
        for thread in self._threads:
            if thread.ident:
                thread.join(max(0.0, (ends - self._clock.monotonic_ns()) / 1e9))

    def _let_the_last_frame_go(self) -> None:
        """Wait until the frame handed on last was taken, so that none grows old where it cannot be dropped."""
        with self._asked:
            while self._due and not self._stop.is_set():
                self._asked.wait(_STEP_S)

    def _watch(self) -> None:
        while not self._stop.wait(_STEP_S):
            for health in self.healths.values():
                health.check()

    def _supervise(self, settings: LiveSensorSettings, kind: DriverClass) -> None:
        health, failures, jitter = self.healths[settings.name], 0, random.Random()
        while not self._stop.is_set():
            began = self._clock.monotonic_ns()
            why = self._stream(settings, kind, health)
            if self._stop.is_set():
                return
            health.failed(why)
            steady = self._clock.monotonic_ns() - began > STEADY_S * 1e9
            failures = 1 if steady else failures + 1
            pause = min(settings.backoff_max_s, settings.backoff_first_s * 2 ** min(failures - 1, 20))
            self._stop.wait(pause * jitter.uniform(0.5, 1.0))
            health.restarted()

    def _stream(self, settings: LiveSensorSettings, kind: DriverClass, health: SensorHealth) -> str:
        """Open the sensor and pass on what it delivers; why it ended."""
        name, where = settings.name, shown(settings.url)
        mount = Mount(name, self._task.sensors[name], self._arrival.now_ns, health.dropped)
        try:
            driver = self._drivers[name] = kind.open(settings.url, mount)
            try:
                if self._stop.is_set():
                    return ""
                for reading in driver.readings():
                    if self._stop.is_set():
                        break
                    self._pass_on(settings, mount, reading, health)
            finally:
                driver.close()
                del self._drivers[name]
        except FusionError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 one driver's defect must not end the others
            _log.debug("driver of %s", where, exc_info=True)
            return f"{where}: a defect in its driver: {type(error).__name__}: {' '.join(str(error).split())}"
        return f"{where}: the stream ended"

    def _pass_on(self, settings: LiveSensorSettings, mount: Mount, reading: Reading, health: SensorHealth) -> None:
        if (reading.sensor, reading.modality) != (mount.name, mount.modality):
            raise SensorError(f"{shown(settings.url)}: delivered {reading.modality} of {reading.sensor!r}")
        if not isinstance(reading.payload, _PAYLOADS[mount.modality]):
            raise SensorError(f"{shown(settings.url)}: delivered {type(reading.payload).__name__} as {mount.modality}")
        if settings.offset_s:
            moved = reading.capture_time_ns + round(settings.offset_s * 1e9)
            reading = replace(reading, capture_time_ns=moved)
        health.delivered()
        self._handover.put(reading, self._clock.monotonic_ns())


def _bound(work: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: work(*arguments)


def _driver_for(settings: LiveSensorSettings, task: Task) -> DriverClass:
    if settings.name not in task.sensors:
        known = ", ".join(task.sensors)
        raise ConfigError(f"source.sensors: task {task.name} has no sensor {settings.name!r}; it has {known}")
    kind, wanted = driver_class(settings.url), task.sensors[settings.name].modality
    if kind.modality is not wanted:
        what = f"a {kind.modality.value} where {settings.name!r} is a {wanted.value}"
        raise ConfigError(f"source.sensors: {shown(settings.url)} is {what}")
    return kind
