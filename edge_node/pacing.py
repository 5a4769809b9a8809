"""When a recorded reading is due: capture times played at a factor of their speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fusion.clock import Clock

JUMP_NS = 5_000_000_000


@dataclass(slots=True)
class Pacer:
    """`speed` 1 is real time, infinity flat out. A step of the stamps beyond five seconds is played at once."""

    speed: float
    clock: Clock
    _anchor: tuple[int, int] | None = None
    _last_ns: int = 0

    def due_ns(self, capture_time_ns: int) -> int:
        """The monotonic time a reading is due at; 0 for at once."""
        if math.isinf(self.speed):
            return 0
        now = self.clock.monotonic_ns()
        if self._anchor is None or abs(capture_time_ns - self._last_ns) > JUMP_NS:
            self._anchor = (capture_time_ns, now)
        self._last_ns = capture_time_ns
        began_capture, began = self._anchor
        return began + round((capture_time_ns - began_capture) / self.speed)
