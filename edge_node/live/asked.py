"""Which frames triggers ask for: each takes the first one that is late enough, and no frame is taken twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_WAITING = 1_000
"""Triggers that wait for a frame; one more is overdue at once."""
Frame = TypeVar("Frame")


@dataclass(slots=True)
class Asked(Generic[Frame]):
    """Triggers that wait, and the newest frame, which a trigger that was told late may still want.

    Frames are offered in the order they came. `refuse` is called for each that no trigger can take any more.
    """

    refuse: Callable[[], object]
    _waiting: list[tuple[int, float]] = field(default_factory=list)
    _newest: tuple[int, Frame] | None = None
    over: bool = False

    def ask(self, due_ns: int, ends_ns: int) -> Frame | None:
        """The frame for a trigger, where it is there; else the trigger waits until `ends_ns` (monotonic)."""
        if self._newest and self._newest[0] >= due_ns:
            frame, self._newest = self._newest[1], None
            return frame
        self._waiting.append((due_ns, ends_ns if len(self._waiting) < MAX_WAITING else -math.inf))
        return None

    def offer(self, time_ns: int, frame: Frame) -> bool:
        """Whether a waiting trigger takes the frame captured at `time_ns`; of several the one that came first."""
        self._refuse_newest()
        for place, (due_ns, _) in enumerate(self._waiting):
            if due_ns <= time_ns:
                del self._waiting[place]
                return True
        self._newest = time_ns, frame
        if self.over:
            self._refuse_newest()
        return False

    def overdue(self, now_ns: float) -> list[int]:
        """When the frames were due of triggers that have waited long enough; they wait no longer."""
        ended = [due_ns for due_ns, ends_ns in self._waiting if ends_ns <= now_ns]
        self._waiting = [waiting for waiting in self._waiting if waiting[1] > now_ns]
        return ended

    def end(self) -> None:
        """No frame comes any more: every trigger is overdue."""
        self.over = True
        self._waiting = [(due_ns, -math.inf) for due_ns, _ in self._waiting]
        self._refuse_newest()

    def _refuse_newest(self) -> None:
        if self._newest:
            self._newest = None
            self.refuse()
