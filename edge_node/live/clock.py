"""The time of arrival: one clock for all sensors of a device, which does not step with small corrections."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from fusion.clock import Clock
from fusion.synchronization import JUMP_NS


@dataclass(slots=True)
class ArrivalClock:
    """Nanoseconds since 1970, carried on by the monotonic clock.

    A wall clock that was set by more than five seconds (a device that booted in 1970) is followed at once, for all
    sensors together: the synchronizer begins afresh there. Less is not followed, so intervals stay true.
    """

    clock: Clock
    _offset_ns: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now_ns(self) -> int:
        """The time now; from any thread."""
        monotonic = self.clock.monotonic_ns()
        offset = self.clock.wall_ns() - monotonic
        with self._lock:
            if self._offset_ns is None or abs(offset - self._offset_ns) > JUMP_NS:
                self._offset_ns = offset
            return monotonic + self._offset_ns
