"""The states of the closed ledger: every sample and every item ends in exactly one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class SampleState(StrEnum):
    """Where a sample ended."""

    PROCESSED = "processed"
    GAP = "gap"


class ItemState(StrEnum):
    """Where an item ended; `PENDING` is the only one that is not final."""

    PENDING = "pending"
    PASSED = "passed"
    REVIEWED = "reviewed"
    DEDUPLICATED = "deduplicated"
    SHED = "shed"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"

    @property
    def final(self) -> bool:
        """Whether an item in this state can no longer change."""
        return self is not ItemState.PENDING


@dataclass(frozen=True, slots=True)
class Gap:
    """What a source delivered, or should have, and was never committed: inclusive source cursors."""

    first: int
    last: int
    reason: str

    @property
    def count(self) -> int:
        """How many samples the gap stands for."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """Totals of one side's ledger."""

    samples: int
    gaps: int
    items: Mapping[ItemState, int]

    @property
    def item_total(self) -> int:
        """All items, whatever their state."""
        return sum(self.items.values())

    @property
    def closed(self) -> bool:
        """Whether no item is still pending."""
        return self.items.get(ItemState.PENDING, 0) == 0
