"""One change as a card: what it was, what it is, what is true, and both boxes on the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.task import Task
from fusion.types import Box2D
from replay.compare.changes import GONE, NEW, Change
from replay.compare.page.pictures import Cuts
from replay.results.answers import answers, standing
from replay.results.records import ItemResult


@dataclass(frozen=True, slots=True)
class Answered:
    """One slot in both runs and in truth; empty where nobody answers."""

    slot: str
    before: str
    after: str
    truth: str

    @property
    def changed(self) -> bool:
        """Whether the two runs answer otherwise."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the template shows of one change."""

    change: Change
    rank: int
    anchor: str
    seconds: float
    title: str
    slots: tuple[Answered, ...]
    cuts: Cuts

    @property
    def boxes(self) -> list[tuple[str, Box2D, str]]:
        """What is drawn: which run, its box, what it is called there."""
        both = (("before", self.change.before), ("after", self.change.after))
        return [(kind, item.box, f"{item.label} {item.score:.2f}") for kind, item in both if item]


def cards(
    task: Task, changes: Sequence[Change], first_ns: Mapping[str, int], pictures: Mapping[int, Cuts]
) -> list[Card]:
    """A card for each change, in their order; `first_ns` is when each recording begins."""
    return [
        Card(
            change=change,
            rank=rank,
            anchor=f"change-{rank}",
            seconds=seconds(change, first_ns),
            title=title(change),
            slots=tuple(_slots(task, change)),
            cuts=pictures.get(rank - 1, Cuts()),
        )
        for rank, change in enumerate(changes, 1)
    ]


def seconds(change: Change, first_ns: Mapping[str, int]) -> float:
    """When it was, from its recording's first item."""
    return (change.item.time_ns - first_ns[change.recording]) / 1e9


def title(change: Change) -> str:
    """What it is, in a few words."""
    if NEW in change.kinds:
        return f"{change.item.label}: only in the second run"
    if GONE in change.kinds:
        return f"{change.item.label}: only in the first run"
    assert change.before is not None
    assert change.after is not None
    if change.before.label != change.after.label:
        return f"{change.before.label}, now {change.after.label}"
    return change.item.label


def _slots(task: Task, change: Change) -> list[Answered]:
    first, second = _standing(change.before), _standing(change.after)
    truth = change.item.truth_answers
    rows = [Answered(s.name, first.get(s.name, ""), second.get(s.name, ""), truth.get(s.name, "")) for s in task.slots]
    return [row for row in rows if row.before or row.after]


def _standing(item: ItemResult | None) -> Mapping[str, str]:
    return answers(item, standing(item)) if item else {}
