"""What the service knows about its devices, connected or not, for whoever watches; the ledger keeps the books."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fusion.types import DeviceStatus, LedgerCounts
from fusion.wire.messages import Hello, LedgerReport

MOST_AWAY = 4096
"""Devices remembered beside those that are connected; beyond it, those that were away longest are forgotten."""


@dataclass(slots=True)
class DeviceRow:
    """One device, as the fleet keeps it: it changes while the device tells more.

    Times are the service's wall clock; `left_ns` is None while it is connected, with `how` it left. `open_items` have
    no answer yet, the oldest since `lag_ns`. `counts` are the totals it told last, at `told_ns`, and `status` what it
    last told of itself, at `status_ns`; None where it told nothing.
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
    """Told by the sessions what happens. All calls are from the event loop, and none but those that give rows takes
    longer the more devices there are.
    """

    def __init__(self) -> None:
        self._here: dict[str, DeviceRow] = {}
        self._away: OrderedDict[str, DeviceRow] = OrderedDict()

    @property
    def numbers(self) -> tuple[int, int]:
        """How many devices are connected, and how many are known."""
        return len(self._here), len(self._here) + len(self._away)

    def rows(self) -> tuple[DeviceRow, ...]:
        """Every device, by name; to be copied by whoever keeps them."""
        rows = self._here | self._away
        return tuple(rows[name] for name in sorted(rows))

    def here(self) -> tuple[DeviceRow, ...]:
        """Those that are connected, by name; to be copied by whoever keeps them."""
        return tuple(self._here[name] for name in sorted(self._here))

    def connected(self, hello: Hello, now_ns: int) -> None:
        """A device shook hands."""
        known = self._here.pop(hello.device, None) or self._away.pop(hello.device, None)
        row = DeviceRow(hello.device, hello.task, hello.epoch, dict(hello.models), hello.profiles, now_ns, now_ns)
        if known is not None and known.epoch == hello.epoch:
            row.counts, row.told_ns = known.counts, known.told_ns
            row.status, row.status_ns = known.status, known.status_ns
        self._here[hello.device] = row

    def seen(self, device: str, now_ns: int) -> None:
        """A message came."""
        if (row := self._row(device)) is not None:
            row.seen_ns = now_ns

    def reported(self, device: str, report: LedgerReport, now_ns: int) -> None:
        """A device told its totals; without a status, the last one stays."""
        if (row := self._row(device)) is None:
            return
        row.counts, row.told_ns = report.counts, now_ns
        if report.status:
            row.status, row.status_ns = report.status, now_ns

    def left(self, device: str, how: str, now_ns: int) -> None:
        """A device's stream is over, and no newer one took its place."""
        row = self._here.pop(device)
        row.left_ns, row.how = now_ns, how
        self._away[device] = row
        if len(self._away) > MOST_AWAY:
            self._away.popitem(last=False)

    def _row(self, device: str) -> DeviceRow | None:
        """The row of a device; None of one that was forgotten."""
        return self._here.get(device) or self._away.get(device)


def longest_lag_s(rows: Iterable[DeviceRow]) -> float:
    """How long the oldest unanswered item of any device had waited when the device last told; 0 when none tells."""
    waits = (row.status.oldest_outbox_s for row in rows if row.status)
    return max((wait for wait in waits if wait is not None), default=0.0)
