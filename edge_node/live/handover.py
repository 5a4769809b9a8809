"""From capture threads to the reader: bounded, the newest wins, and no capture thread ever waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_node.live.health import SensorHealth
from fusion.types import Modality, Reading

DEPTHS = {Modality.CAMERA: 1, Modality.LIDAR: 1, Modality.SPEECH: 50}
"""Readings held for a reader that is busy: of sound each counts, of pictures and sweeps the newest alone."""
MAX_OVERTAKEN = 100_000
"""Capture times of dropped reference frames that are kept until they are declared: an hour of 30 Hz."""
OVERTAKEN = "overtaken by a newer one"
FORGOTTEN = "overtaken, too many to declare"


@dataclass(frozen=True, slots=True, eq=False)
class Handed:
    """A reading and when it arrived (monotonic). Without one: a frame of the reference sensor that was dropped."""

    arrived_ns: int
    capture_time_ns: int
    reading: Reading | None


@dataclass(slots=True)
class HandOver:
    """`put` from any thread, `take` from one. Frames of the sensor `reference` are dropped down to their times."""

    healths: Mapping[str, SensorHealth]
    reference: str = ""
    _held: dict[str, deque[tuple[int, Handed]]] = field(default_factory=dict)
    _overtaken: deque[tuple[int, int]] = field(default_factory=deque)
    _count: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, reading: Reading, arrived_ns: int) -> None:
        """Hold a reading; the oldest of its sensor gives way."""
        name = reading.sensor
        with self._changed:
            self._count += 1
            held = self._held.setdefault(name, deque())
            if len(held) == DEPTHS[reading.modality]:
                self._drop(name, *held.popleft())
            held.append((self._count, Handed(arrived_ns, reading.capture_time_ns, reading)))
            self._changed.notify()

    def take(self, timeout_s: float) -> Handed | None:
        """What arrived first of all that is held; None when nothing came within `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._overtaken or any(self._held.values()), timeout_s):
                return None
            first = min((held for held in self._held.values() if held), key=lambda held: held[0][0], default=None)
            if self._overtaken and (first is None or self._overtaken[0][0] < first[0][0]):
                return Handed(0, self._overtaken.popleft()[1], None)
            assert first is not None
            return first.popleft()[1]

    def _drop(self, name: str, number: int, handed: Handed) -> None:
        self.healths[name].dropped(OVERTAKEN)
        if name != self.reference:
            return
        if len(self._overtaken) == MAX_OVERTAKEN:
            self._overtaken.popleft()
            self.healths[name].dropped(FORGOTTEN)
        self._overtaken.append((number, handed.capture_time_ns))
