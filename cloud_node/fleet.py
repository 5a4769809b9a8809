"""What the service knows about its devices, connected or not, for whoever watches; the ledger keeps the books."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fusion.types import DeviceStatus, LedgerCounts
from fusion.wire.messages import Hello, LedgerReport

MOST_AWAY = 4096
"""Devices remembered beside those that are connected; beyond it, those that were away longest are forgotten."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device. Times are the service's wall clock; `left_ns` is None while it is connected, with `how` it left.

    `open_items` have no answer yet, the oldest since `lag_ns`. `counts` are the totals it told last, at `told_ns`, and
    `status` what it last told of itself, at `status_ns`; None where it told nothing.
    """

    device: str
    task: str
    epoch: str
    models: Mapping[str, str]
    profiles: tuple[str, ...]
    connected_ns: int
    seen_ns: int
    left_ns: int | None = None
    how: str = ""
    open_items: int = 0
    lag_ns: int = 0
    counts: LedgerCounts | None = None
    told_ns: int | None = None
    status: DeviceStatus | None = None
    status_ns: int | None = None

    @property
    def connected(self) -> bool:
        """Whether its stream is open."""
        return self.left_ns is None


class Fleet:
    """Told by the sessions what happens. All calls are from the event loop."""

    def __init__(self) -> None:
        self._rows: dict[str, DeviceRow] = {}
        self._seen_ns: dict[str, int] = {}

    def rows(self) -> tuple[DeviceRow, ...]:
        """Every device, by name."""
        return tuple(replace(self._rows[name], seen_ns=self._seen_ns[name]) for name in sorted(self._rows))

    def here(self) -> tuple[DeviceRow, ...]:
        """Those that are connected, by name."""
        return tuple(row for row in self.rows() if row.connected)

    def connected(self, hello: Hello, now_ns: int) -> None:
        """A device shook hands."""
        known = self._rows.pop(hello.device, None)
        row = DeviceRow(hello.device, hello.task, hello.epoch, dict(hello.models), hello.profiles, now_ns, now_ns)
        if known is not None and known.epoch == hello.epoch:
            row = replace(
                row, counts=known.counts, told_ns=known.told_ns, status=known.status, status_ns=known.status_ns
            )
        self._rows[hello.device] = row
        self._seen_ns[hello.device] = now_ns

    def seen(self, device: str, now_ns: int) -> None:
        """A message came."""
        self._seen_ns[device] = now_ns

    def reported(self, device: str, report: LedgerReport, now_ns: int) -> None:
        """A device told its totals; without a status, the last one stays."""
        row = replace(self._rows[device], counts=report.counts, told_ns=now_ns)
        self._rows[device] = replace(row, status=report.status, status_ns=now_ns) if report.status else row

    def left(self, device: str, how: str, now_ns: int) -> None:
        """A device's stream is over, and no newer one took its place."""
        self._rows[device] = replace(self._rows[device], left_ns=now_ns, how=how)
        away = [row for row in self._rows.values() if not row.connected]
        if len(away) > MOST_AWAY:
            longest = min(away, key=lambda row: row.left_ns or 0).device
            del self._rows[longest], self._seen_ns[longest]


def longest_lag_s(rows: Iterable[DeviceRow]) -> float:
    """How long the oldest unanswered item of any device had waited when the device last told; 0 when none tells."""
    waits = (row.status.oldest_outbox_s for row in rows if row.status)
    return max((wait for wait in waits if wait is not None), default=0.0)
