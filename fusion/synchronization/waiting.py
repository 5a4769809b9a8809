"""A frame that waits for sensors to deliver up to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fusion.synchronization.track import Held
from fusion.types import Reading


@dataclass(slots=True, eq=False)
class WaitingFrame:
    """`done` are the sensors that the frame no longer waits for, `in_vain` if it waited too long for one. `chosen` is
    what it takes of those that delivered up to it or were given up. What it takes of one that was not alive is settled
    when it is handed back, for it may wait for others.
    """

    cursor: int
    frame: Reading
    chosen: dict[str, Held] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    in_vain: bool = False
    _since_ns: int | None = None
    _first_ns: dict[str, int] = field(default_factory=dict)

    @property
    def time_ns(self) -> int:
        """When the frame was captured."""
        return self.frame.capture_time_ns

    @property
    def cursors(self) -> Iterator[int]:
        """Source positions of what is held for it."""
        yield self.cursor
        yield from (held[0] for held in self.chosen.values())

    def heard(self, sensor: str, newest_ns: int) -> None:
        """A sensor delivered while the frame waited; `newest_ns` is its newest stamp now."""
        self._first_ns.setdefault(sensor, newest_ns)

    def waited_ns(self, now_ns: int) -> int:
        """How long it has waited, by a clock that goes on: since this was first asked."""
        if self._since_ns is None:
            self._since_ns = now_ns
        return now_ns - self._since_ns

    def begin_anew(self, sensor: str) -> None:
        """Its stamps so far are not comparable with those to come."""
        self._first_ns.pop(sensor, None)

    def progress_ns(self, sensor: str, newest_ns: int | None) -> int:
        """By how much the sensor's own stamps went on since its first delivery while the frame waited."""
        first_ns = self._first_ns.get(sensor)
        return 0 if first_ns is None or newest_ns is None else newest_ns - first_ns
