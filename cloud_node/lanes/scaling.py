"""How many replicas a queue asks for. A pure decision object: it knows readings and a clock's, and touches nothing."""

from __future__ import annotations

import math

from fusion.review import ScaleLimits

SLACK = 0.7
"""A replica goes only if the others would then be busy for no more than this share."""

SETTLE_NS = 5_000_000_000
"""No two changes lie closer together: a replica that was just asked for has not taken any work yet."""

SMOOTHING_NS = 2_000_000_000
"""Over about so long the number of busy replicas is averaged."""


class Scaler:
    """Decides from time to time.

    The load is the mean number of busy replicas plus the seconds of work that wait over `target_s`. More load than
    replicas asks for as many as the load, at once. Load that one replica less would carry with slack, for
    `idle_s` seconds without a break, lets one go.
    """

    period_s = 0.5

    def __init__(self, limits: ScaleLimits) -> None:
        self._limits = limits
        self._wanted = limits.least
        self._busy = 0.0
        self._last_ns: int | None = None
        self._changed_ns: int | None = None
        self._idle_since_ns: int | None = None

    def decide(self, now_ns: int, waiting_s: float, busy: int) -> int:
        """How many replicas there should be, given the work that waits, in one replica's seconds, and who is busy."""
        self._average(now_ns, busy)
        load = self._busy + waiting_s / self._limits.target_s
        if load > SLACK * (self._wanted - 1):
            self._idle_since_ns = None
        elif self._idle_since_ns is None:
            self._idle_since_ns = now_ns
        if self._changed_ns is not None and now_ns - self._changed_ns < SETTLE_NS:
            return self._wanted
        if waiting_s > 0 and load > self._wanted:
            self._change(now_ns, math.ceil(min(load, self._limits.most)))
        elif self._idle_since_ns is not None and now_ns - self._idle_since_ns >= self._limits.idle_s * 1e9:
            self._change(now_ns, self._wanted - 1)
        return self._wanted

    def _average(self, now_ns: int, busy: int) -> None:
        passed_ns = SMOOTHING_NS if self._last_ns is None else now_ns - self._last_ns
        self._busy += (busy - self._busy) * -math.expm1(-passed_ns / SMOOTHING_NS)
        self._last_ns = now_ns

    def _change(self, now_ns: int, wanted: int) -> None:
        wanted = min(self._limits.most, max(self._limits.least, wanted))
        if wanted != self._wanted:
            self._wanted, self._changed_ns, self._idle_since_ns = wanted, now_ns, None
