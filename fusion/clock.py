"""Clocks. Time is integer nanoseconds; durations come from one host's monotonic clock.

Two hosts' wall clocks are never subtracted: `OffsetEstimate` says how far a peer's clock is, with an error bar.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

UNSET_NS = 1_577_836_800_000_000_000
"""The year 2020: a wall clock before it was never set (a device without a battery boots in 1970)."""


class Clock(Protocol):
    """What every part that waits or measures is given, so that tests need not sleep."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970; for labels, never for durations."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never steps; for durations and deadlines on this host."""


class SystemClock:
    """The host's clocks."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds on the host's monotonic clock."""
        return time.monotonic_ns()


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told to: for tests and for deterministic replay."""

    now_ns: int = 0

    def wall_ns(self) -> int:
        """The set time."""
        return self.now_ns

    def monotonic_ns(self) -> int:
        """The set time."""
        return self.now_ns

    def advance(self, duration_ns: int) -> None:
        """Move forward."""
        if duration_ns < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-duration_ns} ns")
        self.now_ns += duration_ns


@dataclass(frozen=True, slots=True)
class OffsetEstimate:
    """Peer clock minus own clock: `offset_ns`, true within `error_ns` either way (RFC 5905's on-wire protocol)."""

    offset_ns: int
    error_ns: int

    @classmethod
    def from_exchange(cls, sent_ns: int, peer_received_ns: int, peer_sent_ns: int, received_ns: int) -> OffsetEstimate:
        """The estimate of one exchange; all four are wall nanoseconds of the clock they were read on."""
        offset = ((peer_received_ns - sent_ns) + (peer_sent_ns - received_ns)) // 2
        round_trip = (received_ns - sent_ns) - (peer_sent_ns - peer_received_ns)
        return cls(offset, max(0, round_trip + 1) // 2)

    def contradicts(self, other: OffsetEstimate) -> bool:
        """Whether not both can be true of the same clocks: one of the clocks was set between them."""
        return abs(self.offset_ns - other.offset_ns) > self.error_ns + other.error_ns
