"""Parts of two runs that are compared on their own: a recording, a class, a condition, a reason, a size of box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from replay.results.records import ItemResult

SMALL, LARGE = 32.0**2, 96.0**2
"""Areas in square pixels between small, medium and large boxes, as COCO has them."""
WHOLE = ("", "")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part: `by` says what it is a part by, `value` which. Both are empty for the whole run."""

    by: str
    value: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.by}: {self.value}" if self.by else "everything"


def slices_of(item: ItemResult) -> Iterator[Slice]:
    """All that an item belongs to, the whole first. A matched item belongs where its first run has it."""
    yield Slice(*WHOLE)
    yield Slice("recording", item.recording)
    yield Slice("class", item.label)
    if condition := item.truth_answers.get("condition") or item.device_answers.get("condition"):
        yield Slice("condition", condition)
    for reason in item.reasons:
        yield Slice("reason", reason)
    yield Slice("size", size_of(item))


def size_of(item: ItemResult) -> str:
    """`small`, `medium` or `large`, by the area of its box."""
    area = item.box.area
    return "small" if area < SMALL else "medium" if area < LARGE else "large"
