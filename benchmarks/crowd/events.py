"""Simulated time: what happens when. Times are nanoseconds since the beginning."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Events:
    """Happenings in order of time, those of one time in the order they were asked for."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._count = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, time_ns: int, happening: Callable[[], None]) -> None:
        """Let something happen at `time_ns`, or now if that is over."""
        self._count += 1
        heapq.heappush(self._heap, (max(time_ns, self.now_ns), self._count, happening))

    def run(self, until_ns: int) -> None:
        """Let everything happen up to `until_ns`."""
        while self._heap and self._heap[0][0] <= until_ns:
            self.now_ns, _, happening = heapq.heappop(self._heap)
            happening()
        self.now_ns = until_ns
