"""How the connected devices are: what each last told of itself, and when. In memory; the ledger keeps the books."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fusion.types import DeviceStatus, LedgerCounts
from fusion.wire.messages import Hello, LedgerReport


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One connected device. Times are the service's wall clock; what it has not told yet is None.

    `counts` are those of its last report, `status` its last status, received at `status_ns`.
    """

    device: str
    epoch: str
    task: str
    connected_since_ns: int
    last_seen_ns: int
    models: Mapping[str, str] = field(default_factory=dict)
    counts: LedgerCounts | None = None
    status: DeviceStatus | None = None
    status_ns: int | None = None

    @classmethod
    def of(cls, hello: Hello, now_ns: int) -> DeviceRow:
        """A device that has just said Hello."""
        return cls(hello.device, hello.epoch, hello.task, now_ns, now_ns, dict(hello.models))

    def told(self, report: LedgerReport, now_ns: int) -> DeviceRow:
        """It reported; a report without a status leaves the last one."""
        row = replace(self, counts=report.counts)
        return replace(row, status=report.status, status_ns=now_ns) if report.status else row


def longest_lag_s(rows: Iterable[DeviceRow]) -> float:
    """How long the oldest unanswered item of any device had waited when the device last told; 0 when none tells."""
    waits = (row.status.oldest_outbox_s for row in rows if row.status)
    return max((wait for wait in waits if wait is not None), default=0.0)
