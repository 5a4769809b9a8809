"""How the device is, gathered for the service from what is measured here anyway."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from edge_node.power import Power
from edge_node.spool import Record, SampleRecord, Spool
from fusion.clock import Clock
from fusion.types import DeviceStatus

WINDOW_S = 60.0
_MOST_SAMPLES = 4096
"""Kept: where they are not all of the window's, what is told is of the time they span."""
_PACKAGE = "fusion-stack"


class Vitals:
    """Told of every record by the pipeline's thread, asked for a status by the spool's.

    `sent_bytes` counts the evidence sent so far.
    """

    def __init__(self, clock: Clock, power: Power, sent_bytes: Callable[[], int]) -> None:
        self._clock, self._power, self._sent_bytes = clock, power, sent_bytes
        self._samples: deque[tuple[int, int]] = deque(maxlen=_MOST_SAMPLES)
        self._began_ns = clock.monotonic_ns()
        self._sent = 0, self._began_ns
        self._software = software_version()

    def observe(self, record: Record) -> None:
        """Keep when a sample was decided on, and how long that took."""
        if isinstance(record, SampleRecord):
            self._samples.append((self._clock.monotonic_ns(), record.timing.edge))

    def status(self, spool: Spool) -> DeviceStatus:
        """How the device is now."""
        now, kept = self._clock.monotonic_ns(), tuple(self._samples)
        since = max(now - round(WINDOW_S * 1e9), self._began_ns)
        if len(kept) == _MOST_SAMPLES:  # what came before the oldest of them is forgotten
            since = max(since, kept[0][0])
        recent = [edge / 1e6 for at, edge in kept if at >= since]
        p50, p99 = map(float, np.percentile(recent, (50, 99))) if recent else (None, None)
        power = self._power.status
        return DeviceStatus(
            power_w=power.watts,
            temperature_c=max(power.temperatures.values(), default=None),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            samples_per_s=_per_second(len(recent), now - since),
            outbox_items=spool.waiting(),
            oldest_outbox_s=spool.oldest_wait_s(),
            uplink_bytes_per_s=self._uplink_rate(now),
            spool_bytes=spool.outbox_bytes,
            software=self._software,
        )

    def _uplink_rate(self, now_ns: int) -> float | None:
        """Evidence since this was last asked."""
        before, since_ns = self._sent
        self._sent = self._sent_bytes(), now_ns
        return _per_second(self._sent[0] - before, now_ns - since_ns)


def software_version() -> str:
    """The installed program's version; empty in a checkout that is not installed."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return ""


def _per_second(count: int, elapsed_ns: int) -> float | None:
    return count / elapsed_ns * 1e9 if elapsed_ns > 0 else None
