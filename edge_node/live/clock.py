"""The time of arrival: one clock for all sensors of a device, which does not step with small corrections."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from fusion.clock import UNSET_NS, Clock
from fusion.synchronization import JUMP_NS

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ArrivalClock:
    """Nanoseconds since 1970, carried on by the monotonic clock.

    A wall clock that was set by more than five seconds (a device that booted in 1970) is followed at once, for all
    sensors together: the synchronizer begins afresh there. Less is not followed, so intervals stay true. `steps` counts
    what was followed, each told in the log.
    """

    clock: Clock
    steps: int = 0
    _step_ns: int = 0
    _offset_ns: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now_ns(self) -> int:
        """The time now; from any thread."""
        with self._lock:  # read within it: who read before a step and comes after it would follow it back
            monotonic = self.clock.monotonic_ns()
            wall = self.clock.wall_ns()
            if self._offset_ns is None or abs(wall - monotonic - self._offset_ns) > JUMP_NS:
                self._follow(wall, wall - monotonic)
            assert self._offset_ns is not None
            return monotonic + self._offset_ns

    def told(self) -> dict[str, Any]:
        """As JSON would have it: `steps`, the last one's seconds, and whether the clock is `unset`."""
        unset = self.now_ns() < UNSET_NS
        return {"steps": self.steps, "last_step_s": round(self._step_ns / 1e9, 3), "unset": unset}

    def _follow(self, wall: int, offset: int) -> None:
        if self._offset_ns is not None:
            self.steps += 1
            self._step_ns = offset - self._offset_ns
            _log.warning("clock: the host's was set by %+.3f s; all sensors follow", self._step_ns / 1e9)
        self._offset_ns = offset
        if wall < UNSET_NS:
            year = time.gmtime(wall // 10**9).tm_year
            _log.warning("clock: the host's was never set, it says %d; all sensors follow once it is", year)
