"""The newest readings of one sensor, for frames to choose from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from fusion.types import Reading

Held = tuple[int, Reading]
"""A reading and the source's position after it."""


@dataclass(slots=True)
class Track:
    """One sensor's newest readings, oldest first, as (cursor, reading); `heard` is the cursor of the last to arrive."""

    readings: deque[Held]
    heard: int = 0

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, None when there is none."""
        return self.readings[-1][1].capture_time_ns if self.readings else None

    def insert(self, cursor: int, reading: Reading) -> Held | None:
        """Put it where its stamp belongs; what had to go for it, which may be itself."""
        self.heard = cursor
        position = len(self.readings)
        while position and self.readings[position - 1][1].capture_time_ns > reading.capture_time_ns:
            position -= 1
        gone = None
        if len(self.readings) == self.readings.maxlen:
            if position == 0:
                return cursor, reading
            gone = self.readings.popleft()
            position -= 1
        self.readings.insert(position, (cursor, reading))
        return gone

    def nearest(self, time_ns: int, ahead_ns: int) -> Held | None:
        """The reading nearest to `time_ns`, not newer than `ahead_ns` after it; of two, the older."""

        def far(held: Held) -> tuple[int, int]:
            stamp = held[1].capture_time_ns
            return abs(stamp - time_ns), stamp

        return min(
            (one for one in self.readings if one[1].capture_time_ns <= time_ns + ahead_ns), key=far, default=None
        )
