"""What was wrong with the stamps of readings, by sensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

JUMP_NS = 5_000_000_000
"""A step of one sensor's stamps beyond this is its clock being set, not a late delivery."""


class StampFault(StrEnum):
    """A reading's stamp: seen already, before the one before it, a jump away from it, or too far from the frames'.

    A jump is its clock being set; or nothing coming for so long, where no other sensor shows that time went on. What is
    too far from the frames joins none of them.
    """

    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    CLOCK_SET = "clock_set"
    OUT_OF_WINDOW = "out_of_window"


@dataclass(slots=True)
class SyncCounts:
    """Readings with a fault by sensor and kind, readings of no sensor of the task, and frames that waited in vain.

    `noticed` is told each fault as it is counted: sensor, kind, and how far the stamp is from what it was compared
    with, in nanoseconds, negative when it is older.
    """

    unknown_sensor: int = 0
    waited_out: int = 0
    faults: dict[str, Counter[StampFault]] = field(default_factory=dict)
    noticed: Callable[[str, StampFault, int], object] = lambda _sensor, _fault, _by_ns: None

    def add(self, sensor: str, fault: StampFault, by_ns: int) -> None:
        """Count a fault."""
        self.faults.setdefault(sensor, Counter())[fault] += 1
        self.noticed(sensor, fault, by_ns)

    def total(self, fault: StampFault) -> int:
        """How often it was counted, over all sensors."""
        return sum(found[fault] for found in self.faults.values())
