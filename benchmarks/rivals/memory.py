"""A ledger without storage, so that a measurement can leave storage out."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_node.ledger import Correction, DeviceReport, LedgerReader
from cloud_node.outcome import Outcome
from fusion.errors import InputError
from fusion.types import ItemId


class MemoryLedger:
    """Forgets nothing until it is let go. Implements `Ledger`, but for what nobody asks here."""

    def __init__(self) -> None:
        self._kept: dict[ItemId, Outcome] = {}

    def find(self, items: Sequence[ItemId]) -> list[Outcome | None]:
        """See `Ledger`."""
        return [self._kept.get(item) for item in items]

    def store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """See `Ledger`."""
        return [self._kept.setdefault(outcome.item, outcome) for outcome in outcomes]

    def store_reports(self, reports: Sequence[DeviceReport]) -> None:
        """Not kept."""

    def probe(self) -> None:
        """It can always be written."""

    def record_correction(self, correction: Correction) -> None:
        """Not kept."""

    def last_acknowledged(self, device: str, epoch: str) -> ItemId | None:
        """Nothing is known of another run."""
        del device, epoch

    def reader(self) -> LedgerReader:
        """There is nothing to look at: only the console asks, and no benchmark opens one."""
        raise InputError("a ledger in memory has no reader")

    def close(self) -> None:
        """Let go."""
        self._kept.clear()
