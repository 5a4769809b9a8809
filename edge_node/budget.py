"""A token bucket of bytes, on the stream's own time so that replay decides as the device did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST_GUESS_BYTES = 4096.0
LEARNING = 0.1


@dataclass(slots=True)
class ByteBudget:
    """`rate` bytes a second, at most `burst` saved up; a rate of 0 is no limit.

    What an item will weigh is known only after it is encoded, so admission goes by a running mean and
    `charge` settles the difference.
    """

    rate: float
    burst: int
    level: float = field(init=False)
    expected: float = FIRST_GUESS_BYTES
    _time_ns: int | None = None

    def __post_init__(self) -> None:
        self.level = float(self.burst)

    def refill(self, time_ns: int) -> None:
        """Let time pass up to `time_ns`; a step back refills nothing."""
        if self._time_ns is not None and time_ns > self._time_ns:
            self.level = min(float(self.burst), self.level + self.rate * (time_ns - self._time_ns) / 1e9)
        self._time_ns = time_ns

    def admit(self) -> bool:
        """Whether one more item fits; takes its expected weight when it does."""
        if self.rate == 0:
            return True
        if self.level < min(self.expected, self.burst):
            return False
        self.level -= self.expected
        return True

    def charge(self, actual: int) -> None:
        """Settle an admitted item that weighed `actual` bytes."""
        if self.rate:
            self.level += self.expected - actual
        self.expected += LEARNING * (actual - self.expected)

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {"level": self.level, "expected": self.expected, "time_ns": self._time_ns}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`; a smaller burst set since then holds at once."""
        self.level = min(float(self.burst), state["level"])
        self.expected, self._time_ns = state["expected"], state["time_ns"]
