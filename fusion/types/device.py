"""How a device is, as it last told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """None is not measured.

    `temperature_c` is of the warmest zone. `latency_p50_ms` and `latency_p99_ms`, decoded sample to decision, and
    `samples_per_s` are of the last minute; `uplink_bytes_per_s` is evidence sent since the last status.
    `outbox_items` have no answer, the oldest for `oldest_outbox_s`; `spool_bytes` is what waits, kept lanes included.
    """

    power_w: float | None = None
    temperature_c: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    samples_per_s: float | None = None
    outbox_items: int | None = None
    oldest_outbox_s: float | None = None
    uplink_bytes_per_s: float | None = None
    spool_bytes: int | None = None
    software: str = ""
