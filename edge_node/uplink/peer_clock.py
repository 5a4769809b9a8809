"""How far the service's clock is off, over all streams, also when one of the two clocks is set meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusion.clock import Clock, OffsetEstimate
from fusion.wire.messages import ClockPing, ClockPong

MAX_ASKED = 16
"""Pings that may wait for their answer; of more the oldest is given up."""


@dataclass(slots=True)
class PeerClock:
    """The service's clock minus this host's: `best` is the narrowest estimate that the newest does not contradict."""

    clock: Clock
    best: OffsetEstimate | None = None
    _asked: dict[int, int] = field(default_factory=dict)

    def ping(self) -> ClockPing:
        """A question to send now."""
        wall_ns = self.clock.wall_ns()
        if len(self._asked) == MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[wall_ns] = self.clock.monotonic_ns()
        return ClockPing(wall_ns)

    def answered(self, pong: ClockPong) -> None:
        """Take the answer to a ping; one that was never sent is passed over.

        What it took is measured by the monotonic clock, so the host's clock may be set meanwhile.
        """
        asked_ns = self._asked.pop(pong.ping_sent_ns, None)
        if asked_ns is None:
            return
        back_ns = pong.ping_sent_ns + self.clock.monotonic_ns() - asked_ns
        found = OffsetEstimate.from_exchange(pong.ping_sent_ns, pong.received_ns, pong.sent_ns, back_ns)
        if self.best is None or found.error_ns <= self.best.error_ns or found.contradicts(self.best):
            self.best = found
