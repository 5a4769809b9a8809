"""Every item as one line of the report's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.types import ItemState
from replay.report.wording import short_reason
from replay.results.answers import Outcome, answers, outcome, standing
from replay.results.records import ItemResult


@dataclass(frozen=True, slots=True)
class Row:
    """One item. `note` says where it went or why it ended; `anchor` is its card's name, empty without a card."""

    item: ItemResult
    seconds: float
    outcome: Outcome
    why: str
    answer: str
    truth: str
    note: str
    anchor: str


def rows(items: Sequence[ItemResult], first_ns: Mapping[str, int], anchors: Mapping[str, str], most: int) -> list[Row]:
    """At most `most` items by recording and time, the first sample's `first_ns` by recording; of too many those that
    just passed are left out first.
    """
    kept = sorted(items, key=lambda item: (item.state is ItemState.PASSED, item.time_ns, item.id))[:most]
    inturn = sorted(kept, key=lambda item: (item.recording, item.time_ns, item.id))
    return [_row(item, first_ns.get(item.recording, 0), anchors) for item in inturn]


def _row(item: ItemResult, first_ns: int, anchors: Mapping[str, str]) -> Row:
    return Row(
        item=item,
        seconds=(item.time_ns - first_ns) / 1e9,
        outcome=outcome(item),
        why=", ".join(short_reason(reason) for reason in item.reasons),
        answer=" · ".join(answers(item, standing(item)).values()),
        truth=" · ".join(item.truth_answers.values()),
        note=f"into {_short(item.into)}" if item.into else item.state_reason,
        anchor=anchors.get(item.id, ""),
    )


def _short(item_id: str) -> str:
    """`sequence#item` of an item id."""
    return item_id.rpartition("/")[2]
