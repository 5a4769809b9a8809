"""How each live sensor stands: what state it is in since when and why, and what was lost of it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fusion.clock import Clock

_log = logging.getLogger(__name__)


class SensorState(StrEnum):
    """What a sensor is doing."""

    OPENING = "opening"
    STREAMING = "streaming"
    SILENT = "silent"
    FAILED = "failed"


@dataclass(slots=True)
class SensorHealth:
    """One sensor's books; a change of state is logged once, whoever notices it.

    A sensor that failed stays so, with the reason, until data comes again. Nothing for `silent_s` is silence.
    """

    name: str
    silent_s: float
    clock: Clock
    state: SensorState = SensorState.OPENING
    why: str = ""
    frames: int = 0
    restarts: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    _since_ns: int = 0
    _heard_ns: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._since_ns = self._heard_ns = self.clock.monotonic_ns()

    @property
    def broken(self) -> bool:
        """Whether it delivers nothing, by what is known now."""
        self.check()
        return self.state in {SensorState.SILENT, SensorState.FAILED}

    def opened(self) -> None:
        """It works without having delivered yet; for what may be silent for long."""
        with self._lock:
            self._become(SensorState.STREAMING, "")

    def delivered(self) -> None:
        """Count a reading."""
        with self._lock:
            self.frames += 1
            self._heard_ns = self.clock.monotonic_ns()
            self._become(SensorState.STREAMING, "")

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count readings that are not handed on, or what did not become one."""
        with self._lock:
            self.drops[reason] += count

    def failed(self, why: str) -> None:
        """The driver could not be opened, broke off or ended."""
        with self._lock:
            self._become(SensorState.FAILED, why)

    def restarted(self) -> None:
        """Count another try to open it."""
        with self._lock:
            self.restarts += 1

    def check(self) -> None:
        """Notice silence."""
        with self._lock:
            quiet = self.clock.monotonic_ns() - self._heard_ns > self.silent_s * 1e9
            if quiet and self.state in {SensorState.OPENING, SensorState.STREAMING}:
                self._become(SensorState.SILENT, f"no data for {self.silent_s:g} s")

    def told(self) -> dict[str, Any]:
        """The books as JSON would have them; `since_s` is how long it has been in its state."""
        self.check()
        with self._lock:
            since_s = (self.clock.monotonic_ns() - self._since_ns) / 1e9
            return {
                "state": self.state.value,
                "why": self.why,
                "since_s": round(since_s, 3),
                "frames": self.frames,
                "restarts": self.restarts,
                "drops": dict(self.drops),
            }

    def _become(self, state: SensorState, why: str) -> None:
        if (state, why) == (self.state, self.why):
            return
        if state is not self.state:
            self._since_ns = self.clock.monotonic_ns()
        self.state, self.why = state, why
        level = logging.INFO if state is SensorState.STREAMING else logging.WARNING
        _log.log(level, "sensor %s: %s", self.name, f"{state.value}: {why}" if why else state.value)
