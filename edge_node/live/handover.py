"""From capture threads to the reader: bounded, the newest wins, and no capture thread ever waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from edge_node.live.asked import Asked
from edge_node.live.health import SensorHealth
from edge_node.live.triggers import TRIGGER
from fusion.clock import Clock
from fusion.types import Modality, Reading

DEPTHS = {Modality.CAMERA: 1, Modality.LIDAR: 1, Modality.SPEECH: 50}
"""Readings held for a reader that is busy: of sound each counts, of pictures and sweeps the newest alone."""
ASKED_DEPTH = 4
"""The same for frames that were asked for: each is another part's."""
MAX_OVERTAKEN = 100_000
"""Gaps that are kept until they are declared: an hour of dropped frames at 30 Hz."""
OVERTAKEN = "overtaken by a newer one"
FORGOTTEN = "overtaken, too many to declare"
NOT_ASKED = "not asked for"
NO_FRAME = "a trigger without a frame"


@dataclass(frozen=True, slots=True, eq=False)
class Handed:
    """A reading and when it arrived (monotonic). Without one: a gap in the reference sensor's frames, and `why`."""

    arrived_ns: int
    capture_time_ns: int
    reading: Reading | None
    why: str = ""


class HandOver:
    """`put` and `ask` from any thread, `take` from one. Frames of `reference` are dropped down to their times.

    With a trigger among the `healths` they are held only where it asked for them, and where none came there is a gap.
    """

    def __init__(self, healths: Mapping[str, SensorHealth], clock: Clock) -> None:
        self.reference = ""
        self._healths, self._clock = healths, clock
        self._asked = Asked[Handed](lambda: self._count_drop(NOT_ASKED)) if TRIGGER in healths else None
        self._held: dict[str, deque[tuple[int, Handed]]] = {}
        self._gaps: deque[tuple[int, Handed]] = deque()
        self._count = 0
        self._changed = threading.Condition()

    def put(self, reading: Reading, arrived_ns: int) -> None:
        """Hold a reading; the oldest of its sensor gives way."""
        handed = Handed(arrived_ns, reading.capture_time_ns, reading)
        with self._changed:
            if self._asked and reading.sensor == self.reference:
                self._give_up(self._asked, arrived_ns)
                if self._asked.offer(reading.capture_time_ns, handed):
                    self._hold(reading, handed, ASKED_DEPTH)
            else:
                self._hold(reading, handed, DEPTHS[reading.modality])

    def ask(self, due_ns: int, ends_ns: int) -> bool:
        """Ask for the first frame captured at `due_ns` or later, which may come until `ends_ns` (monotonic).

        False after the end: nobody would see the frame.
        """
        with self._changed:
            if self._asked is None or self._asked.over:
                return False
            handed = self._asked.ask(due_ns, ends_ns)
            if handed and handed.reading:
                self._hold(handed.reading, handed, ASKED_DEPTH)
            return True

    def take(self, timeout_s: float) -> Handed | None:
        """What arrived first of all that is held; None when nothing came within `timeout_s`."""
        with self._changed:
            if self._asked:
                self._give_up(self._asked, self._clock.monotonic_ns())
            if not self._changed.wait_for(lambda: self._gaps or any(self._held.values()), timeout_s):
                return None
            first = min((held for held in self._held.values() if held), key=lambda held: held[0][0], default=None)
            if self._gaps and (first is None or self._gaps[0][0] < first[0][0]):
                return self._gaps.popleft()[1]
            assert first is not None
            return first.popleft()[1]

    def end(self) -> None:
        """No trigger gets a frame any more."""
        with self._changed:
            if self._asked:
                self._asked.end()

    def _hold(self, reading: Reading, handed: Handed, depth: int) -> None:
        name = reading.sensor
        self._count += 1
        held = self._held.setdefault(name, deque())
        if len(held) == depth:
            number, old = held.popleft()
            self._healths[name].dropped(OVERTAKEN)
            if name == self.reference:
                self._declare(number, Handed(old.arrived_ns, old.capture_time_ns, None, "overtaken by a newer frame"))
        held.append((self._count, handed))
        self._changed.notify()

    def _give_up(self, asked: Asked[Handed], now_ns: int) -> None:
        """Declare the triggers that have waited long enough."""
        for due_ns in asked.overdue(now_ns):
            self._healths[TRIGGER].dropped(NO_FRAME)
            self._count += 1
            self._declare(self._count, Handed(now_ns, due_ns, None, NO_FRAME))

    def _declare(self, number: int, gap: Handed) -> None:
        if len(self._gaps) == MAX_OVERTAKEN:
            self._gaps.popleft()
            self._count_drop(FORGOTTEN)
        self._gaps.append((number, gap))
        self._changed.notify()

    def _count_drop(self, reason: str) -> None:
        self._healths[self.reference].dropped(reason)
