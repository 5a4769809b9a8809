"""A stretch of recorded time, open at its end, so that stretches side by side share nothing and lose nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `low_ns` up to, but without, `high_ns`; None where it has no bound on that side."""

    low_ns: int | None = None
    high_ns: int | None = None

    def covers(self, time_ns: int) -> bool:
        """Whether a moment lies in it."""
        return (self.low_ns is None or time_ns >= self.low_ns) and (self.high_ns is None or time_ns < self.high_ns)

    def touches(self, first_ns: int, last_ns: int) -> bool:
        """Whether any moment from `first_ns` to `last_ns`, both counted in, may lie in it."""
        return (self.low_ns is None or last_ns >= self.low_ns) and (self.high_ns is None or first_ns < self.high_ns)


ALWAYS = TimeRange()
