"""What the service knows about its devices, connected or not, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fusion.types import LedgerCounts
from fusion.wire.messages import Hello

MOST = 4096
"""Devices remembered; beyond it, those that were away longest are forgotten."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device. Times are the service's wall clock; `left_ns` is None while it is connected, with `how` it left.

    `open_items` have no answer yet, the oldest since `lag_ns`. `counts` are the totals it told last, at `told_ns`.
    `status` is what it told about itself (power, heat, what waits in its outbox), None where it told nothing.
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
    told_ns: int = 0
    status: object | None = None

    @property
    def connected(self) -> bool:
        """Whether its stream is open."""
        return self.left_ns is None


class Fleet:
    """Told by the sessions what happens. All calls are from the event loop."""

    def __init__(self) -> None:
        self._rows: dict[str, DeviceRow] = {}

    def rows(self) -> tuple[DeviceRow, ...]:
        """Every device, by name."""
        return tuple(self._rows[name] for name in sorted(self._rows))

    def connected(self, hello: Hello, now_ns: int) -> None:
        """A device shook hands."""
        known = self._rows.pop(hello.device, None)
        row = DeviceRow(hello.device, hello.task, hello.epoch, dict(hello.models), hello.profiles, now_ns, now_ns)
        if known is not None and known.epoch == hello.epoch:
            row = replace(row, counts=known.counts, told_ns=known.told_ns, status=known.status)
        self._rows[hello.device] = row
        if len(self._rows) > MOST:
            away = min(self._rows.values(), key=lambda one: (one.connected, one.left_ns or 0))
            del self._rows[away.device]

    def seen(self, device: str, now_ns: int) -> None:
        """A message came."""
        self._change(device, seen_ns=now_ns)

    def reported(self, device: str, counts: LedgerCounts, now_ns: int) -> None:
        """A device told its totals."""
        self._change(device, counts=counts, told_ns=now_ns)

    def left(self, device: str, how: str, now_ns: int) -> None:
        """A device's stream is over, and no newer one took its place."""
        self._change(device, left_ns=now_ns, how=how)

    def _change(self, device: str, **changes: object) -> None:
        if (row := self._rows.get(device)) is not None:
            self._rows[device] = replace(row, **changes)  # type: ignore[arg-type]
