"""What a worker tells of the recording it is at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fusion.clock import Clock, SystemClock
from fusion.recording.base import RecordingInfo

TOLD_EVERY_NS = 250_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the recording called `job` is: `done_s` of `total_s` seconds of recorded time; `doing` is a verb."""

    job: str
    done_s: float
    total_s: float
    doing: str = "screening"


Tell: TypeAlias = Callable[[Progress], object]


class Watch:
    """Counts one pass over a recording and tells of it, not too often."""

    def __init__(self, job: str, tell: Tell | None = None, clock: Clock | None = None) -> None:
        self._job, self._tell, self._clock = job, tell, clock or SystemClock()
        self._first_ns = self._length_ns = 0
        self._done_ns = 0
        self._due_ns = 0

    def begin(self, info: RecordingInfo) -> None:
        """A recording is opened, and nothing of it read yet."""
        first = [sensor.first_ns for sensor in info.sensors.values() if sensor.count]
        self._first_ns, self._length_ns, self._done_ns = min(first, default=0), info.duration_ns, 0
        self._say("screening", now_ns=self._clock.monotonic_ns())

    def at(self, time_ns: int, now_ns: int) -> None:
        """A reading of recorded time `time_ns` was read; it is `now_ns` on the monotonic clock."""
        self._done_ns = max(self._done_ns, min(time_ns - self._first_ns, self._length_ns))
        if now_ns >= self._due_ns:
            self._say("screening", now_ns)

    def reviewing(self) -> None:
        """All is read; what waits is being reviewed."""
        self._done_ns = self._length_ns
        self._say("reviewing", self._clock.monotonic_ns())

    def _say(self, doing: str, now_ns: int) -> None:
        self._due_ns = now_ns + TOLD_EVERY_NS
        if self._tell:
            self._tell(Progress(self._job, self._done_ns / 1e9, self._length_ns / 1e9, doing))
