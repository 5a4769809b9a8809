"""Live sensors as a source: each has a thread that opens it, passes on what it delivers, and opens it again."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from edge_node.config import SourceSettings
from edge_node.live.clock import ArrivalClock
from edge_node.live.deskew import LiveDeskew
from edge_node.live.drivers import Driver, DriverClass, Mount, driver_class, shown
from edge_node.live.handover import Handed, HandOver
from edge_node.live.health import SensorHealth
from edge_node.live.odometry import ODOMETRY, Odometry, OdometryClass, odometry_class
from edge_node.live.supervised import Supervised
from edge_node.live.triggers import TRIGGER, Trigger, TriggerClass, trigger_class
from edge_node.settings.live import LiveSensorSettings, OdometrySettings, TriggerSettings
from fusion.clock import Clock, SystemClock
from fusion.errors import ConfigError, SensorError
from fusion.geometry import Rig
from fusion.recording.base import EgoPose, open_recording
from fusion.task import Task
from fusion.types import AudioChunk, Image, Modality, PointCloud, Reading

DROP_LATE_S = 0.5
"""How old a reference frame may be when its turn comes, where `drop_late_s` does not say."""
_STEP_S = 0.1
_CLOSE_S = 2.0
_NO_PICTURE = Image(np.zeros((0, 0, 3), np.uint8))
_PAYLOADS = {Modality.CAMERA: Image, Modality.LIDAR: PointCloud, Modality.SPEECH: AudioChunk}


class LiveSource:
    """`sensors` by driver class. A live stream cannot be read twice, so `content` is new in each process.

    `content`, `continuous`, `sensors` and `rig` are those of `Source`. `declare` is what makes dropped frames gaps.
    With a `trigger` each frame is another part's, so none continues the one before it. With `odometry` the device's
    own motion is taken out of sweeps, whose LiDARs the `rig` must place. `quiet_ns` is when the source was last seen
    to have nothing to hand over (monotonic).
    """

    def __init__(
        self,
        sensors: Sequence[tuple[LiveSensorSettings, DriverClass]],
        task: Task,
        *,
        trigger: tuple[TriggerSettings, TriggerClass] | None = None,
        odometry: tuple[OdometrySettings, OdometryClass] | None = None,
        rig: Rig | None = None,
        drop_late_s: float = DROP_LATE_S,
        clock: Clock | None = None,
    ) -> None:
        self.content = secrets.token_hex(32)
        self.continuous = trigger is None
        self.sensors = frozenset(settings.name for settings, _ in sensors)
        self.rig = rig
        self._task = task
        self._clock = clock or SystemClock()
        self._arrival = ArrivalClock(self._clock)
        self._drop_late_s = drop_late_s
        self.healths = {s.name: SensorHealth(s.name, s.silent_s, self._clock) for s, _ in sensors}
        if trigger:
            self.healths[TRIGGER] = SensorHealth(TRIGGER, math.inf, self._clock)
        self.quiet_ns = 0
        self._handover = HandOver(self.healths, self._clock)
        self._due: dict[int, Handed] = {}
        self._asked = threading.Condition()
        self._stop = threading.Event()
        self._supervision: list[Supervised[Any, Any]] = [self._supervised(*sensor) for sensor in sensors]
        if trigger:
            self._supervision.append(self._supervised_trigger(*trigger))
        self._deskew: LiveDeskew | None = None
        if odometry and rig:
            self._supervision.append(self._supervised_odometry(*odometry, rig))
        work = [("sensors", self._watch), *((f"sensor {each.health.name}", each.run) for each in self._supervision)]
        if self._deskew:
            work.append(("deskew", self._deskew.run))
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in work]

    @classmethod
    def open(cls, settings: SourceSettings, task: Task) -> Self:
        """Find a driver for each sensor. Raises `ConfigError` naming the sensor; no sensor need be there yet."""
        trigger = settings.trigger
        if trigger and TRIGGER in task.sensors:
            raise ConfigError(f"source.trigger: task {task.name} has a sensor {TRIGGER!r}, which is the trigger's name")
        odometry = settings.odometry
        if odometry and ODOMETRY in task.sensors:
            raise ConfigError(f"source.odometry: task {task.name} has a sensor {ODOMETRY!r}, which is odometry's name")
        found = [(sensor, _driver_for(sensor, task)) for sensor in settings.sensors]
        rig = open_recording(settings.rig, task, None).info().rig if settings.rig else None
        if settings.rig and rig is None:
            raise ConfigError(f"source.rig: {settings.rig} has no calibration in it")
        if odometry:
            _check_places([sensor.name for sensor in settings.sensors], task, rig)
        return cls(
            found, task, rig=rig, drop_late_s=settings.drop_late_s or DROP_LATE_S,
            trigger=(trigger, trigger_class(trigger.url)) if trigger else None,
            odometry=(odometry, odometry_class(odometry.url)) if odometry else None,
        )  # fmt: skip

    def readings(self, cursor: int) -> Iterator[tuple[int, Reading]]:
        """Readings in the order they arrived, numbered on from `cursor`; the first call starts the sensors.

        Ends after `close`, with what is held by then. A gap in the frames of the reference sensor is an empty picture
        that `hold` refuses.
        """
        if not any(thread.ident for thread in self._threads):
            for thread in self._threads:
                thread.start()
        while True:
            self._let_the_last_frame_go()
            over = self._stop.is_set()
            if over:
                self._handover.end()
            handed = self._handover.take(0.0 if over else _STEP_S)
            if handed is None and over:
                return
            if handed is None:
                self.quiet_ns = self._clock.monotonic_ns()
                continue
            cursor += 1
            name, reading = self._handover.reference, handed.reading
            if reading is None:
                modality = self._task.sensors[name].modality
                reading = Reading(name, modality, handed.capture_time_ns, _NO_PICTURE)
            if reading.sensor == name:
                with self._asked:
                    self._due[reading.capture_time_ns] = handed
            yield cursor, reading

    def declare(self, reference: str) -> None:
        """Make each dropped frame of `reference` a gap: whoever reads asks `hold` of each of its frames, once.

        It is this sensor whose frames a trigger asks for.
        """
        self._handover.reference = reference

    def hold(self, capture_time_ns: int) -> str:
        """Why the reference frame of that time is to be skipped; empty when it is to be processed."""
        with self._asked:
            handed = self._due.pop(capture_time_ns, None)
            self._asked.notify()
        if handed is None or handed.why:
            return handed.why if handed else ""
        if self._clock.monotonic_ns() - handed.arrived_ns > self._drop_late_s * 1e9:
            self.healths[self._handover.reference].dropped("too late")
            return f"more than {self._drop_late_s:g} s behind"
        return ""

    def told(self) -> dict[str, dict[str, Any]]:
        """How each sensor stands, by name, and the trigger and odometry."""
        return {name: health.told() for name, health in self.healths.items()}

    def clock_told(self) -> dict[str, Any]:
        """How the host's wall clock stands, by which all sensors are stamped: see `ArrivalClock.told`."""
        return self._arrival.told()

    def blind(self) -> bool:
        """Whether no frames can come, for the reference sensor or the trigger is down."""
        needed = (self._handover.reference, TRIGGER)
        return any(self.healths[name].broken for name in needed if name in self.healths)

    def close(self) -> None:
        """Close every sensor; waits two seconds at most for their threads."""
        if self._deskew and self._threads[-1].ident:  # what waits there is handed over before the reader ends
            self._deskew.end()
            self._threads[-1].join(_STEP_S)
        self._stop.set()
        for each in self._supervision:
            each.close()
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
            self._arrival.now_ns()  # a clock that was set is noticed also while nothing comes
            for health in self.healths.values():
                health.check()

    def _supervised(self, settings: LiveSensorSettings, kind: DriverClass) -> Supervised[Driver, Reading]:
        health = self.healths[settings.name]
        mount = Mount(settings.name, self._task.sensors[settings.name], self._arrival.now_ns, health.dropped)
        return Supervised(
            settings, health, self._clock, lambda: kind.open(settings.url, mount), lambda driver: driver.readings(),
            lambda reading: self._pass_on(settings, mount, reading, health),
        )  # fmt: skip

    def _supervised_trigger(self, settings: TriggerSettings, kind: TriggerClass) -> Supervised[Trigger, int]:
        health = self.healths[TRIGGER]

        def opening() -> Trigger:
            trigger = kind.open(settings.url, self._arrival.now_ns)
            health.opened()
            return trigger

        def ask(time_ns: int) -> None:
            due_ns = time_ns + round(settings.delay_s * 1e9)
            wait_ns = due_ns - self._arrival.now_ns() + round(settings.within_s * 1e9)
            if self._handover.ask(due_ns, self._clock.monotonic_ns() + wait_ns):
                health.delivered()

        return Supervised(settings, health, self._clock, opening, lambda trigger: trigger.events(), ask)

    def _supervised_odometry(
        self, settings: OdometrySettings, kind: OdometryClass, rig: Rig
    ) -> Supervised[Odometry, EgoPose]:
        health = self.healths[ODOMETRY] = SensorHealth(ODOMETRY, settings.silent_s, self._clock)
        deskew = self._deskew = LiveDeskew(rig.ego_from_lidar, self._clock, health.dropped, self._handover.put)

        def take(pose: EgoPose) -> None:
            health.delivered()
            deskew.pose(replace(pose, time_ns=pose.time_ns + round(settings.offset_s * 1e9)))

        return Supervised(
            settings, health, self._clock, lambda: kind.open(settings.url, self._arrival.now_ns, health.dropped),
            lambda odometry: odometry.poses(), take,
        )  # fmt: skip

    def _pass_on(self, settings: LiveSensorSettings, mount: Mount, reading: Reading, health: SensorHealth) -> None:
        if (reading.sensor, reading.modality) != (mount.name, mount.modality):
            raise SensorError(f"{shown(settings.url)}: delivered {reading.modality} of {reading.sensor!r}")
        if not isinstance(reading.payload, _PAYLOADS[mount.modality]):
            raise SensorError(f"{shown(settings.url)}: delivered {type(reading.payload).__name__} as {mount.modality}")
        if settings.offset_s:
            moved = reading.capture_time_ns + round(settings.offset_s * 1e9)
            reading = replace(reading, capture_time_ns=moved)
        health.delivered()
        put = self._deskew.sweep if self._deskew and mount.name in self._deskew.places else self._handover.put
        put(reading, self._clock.monotonic_ns())


def _check_places(names: Sequence[str], task: Task, rig: Rig | None) -> None:
    """Raise `ConfigError` unless there are LiDARs among `names` and the rig places them."""
    lidars = [name for name in names if task.sensors[name].modality is Modality.LIDAR]
    if not lidars:
        raise ConfigError("source.odometry: takes the device's motion out of sweeps; source.sensors has no LiDAR")
    if missing := [name for name in lidars if rig is None or name not in rig.ego_from_lidar]:
        raise ConfigError(f"source.odometry: give a source.rig whose calibration says where {missing[0]!r} sits")


def _driver_for(settings: LiveSensorSettings, task: Task) -> DriverClass:
    if settings.name not in task.sensors:
        known = ", ".join(task.sensors)
        raise ConfigError(f"source.sensors: task {task.name} has no sensor {settings.name!r}; it has {known}")
    kind, wanted = driver_class(settings.url), task.sensors[settings.name].modality
    if kind.modality and kind.modality is not wanted:
        what = f"a {kind.modality.value} where {settings.name!r} is a {wanted.value}"
        raise ConfigError(f"source.sensors: {shown(settings.url)} is {what}")
    return kind
