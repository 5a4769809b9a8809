"""How a device is, as a message and back. What is not measured is not set."""

from __future__ import annotations

from fusion.errors import ProtocolError
from fusion.types import DeviceStatus
from fusion.wire import limits
from fusion.wire.checks import FieldCheck
from fusion.wire.v1 import review_pb2

_MOST = 1 << 62
_MEASURED = {
    "power_w": (0.0, 1e5),
    "temperature_c": (-100.0, 1000.0),
    "latency_p50_ms": (0.0, 1e9),
    "latency_p99_ms": (0.0, 1e9),
    "samples_per_s": (0.0, 1e9),
    "outbox_items": (0, _MOST),
    "oldest_outbox_s": (0.0, 1e10),
    "uplink_bytes_per_s": (0.0, 1e12),
    "spool_bytes": (0, _MOST),
}
"""Fields that may be absent, and the range of each."""


def status_to_proto(status: DeviceStatus) -> review_pb2.DeviceStatus:
    """A status as a message. Raises `ProtocolError` naming what is not finite or out of range."""
    measured = {name: getattr(status, name) for name in _MEASURED}
    _check({name: value for name, value in measured.items() if value is not None}, status.software)
    return review_pb2.DeviceStatus(**measured, software=status.software)


def status_from_proto(message: review_pb2.DeviceStatus) -> DeviceStatus:
    """A status from a message. Raises `ProtocolError` naming what is not finite or out of range."""
    measured = {name: getattr(message, name) for name in _MEASURED if message.HasField(name)}  # type: ignore[arg-type]
    _check(measured, message.software)
    return DeviceStatus(**measured, software=message.software)


def _check(measured: dict[str, float], software: str) -> None:
    check = FieldCheck("DeviceStatus", ProtocolError)
    for name, value in measured.items():
        check.number(name, value, *_MEASURED[name])
    if software:
        check.name("software", software, limits.MAX_VERSION)
