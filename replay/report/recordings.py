"""One line a recording: what was in it, what came of it, what of it could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from fusion.types import ItemState
from replay.results import intervals
from replay.results.answers import Answerer
from replay.results.intervals import Share
from replay.results.records import RecordingResults, RunResults


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording's figures; `missed` and `accuracy` are None where no truth tells them.

    `stretch` is empty where all of it was run; `troubles` are its damage and why samples were declared a gap, in words.
    """

    name: str
    source: str
    stretch: str
    samples: int
    gaps: int
    seconds: float
    items: int
    reviewed: int
    defects: int | None
    missed: Share | None
    accuracy: Share | None
    evidence_bytes: int
    troubles: tuple[str, ...]


def recording_rows(results: RunResults, most: int) -> list[RecordingRow]:
    """At most `most`; of too many, those with troubles and misses are kept, in their order."""
    rows = [_row(one) for one in results.recordings]
    if len(rows) <= most:
        return rows
    ranked = sorted(range(len(rows)), key=lambda place: (not rows[place].troubles, -_misses(rows[place]), place))
    return [rows[place] for place in sorted(ranked[:most])]


def _misses(row: RecordingRow) -> float:
    return row.missed.value * row.missed.n if row.missed else 0.0


def _row(one: RecordingResults) -> RecordingRow:
    told = any(sample.truths is not None for sample in one.samples)
    return RecordingRow(
        name=one.name,
        source=PurePath(one.source).name + (f", split {one.split}" if one.split else ""),
        stretch=stretch(one),
        samples=one.edge_ledger.samples,
        gaps=one.edge_ledger.gaps,
        seconds=one.seconds,
        items=one.edge_ledger.item_total,
        reviewed=one.edge_ledger.items.get(ItemState.REVIEWED, 0),
        defects=len(one.defects) if told else None,
        missed=intervals.missed_share(one.defects),
        accuracy=intervals.accuracy(one.items, Answerer.REVIEWER),
        evidence_bytes=sum(item.evidence_bytes for item in one.items),
        troubles=troubles(one),
    )


def stretch(one: RecordingResults) -> str:
    """`from 3 s to 7.5 s`, as far as it was asked for."""
    parts = [f"from {one.from_s:g} s"] if one.from_s else []
    return " ".join([*parts, f"to {one.to_s:g} s"] if one.to_s is not None else parts)


def troubles(one: RecordingResults) -> tuple[str, ...]:
    """What of a recording was not used, and why."""
    gaps = [f"{count} of its frames became no sample: {reason}" for reason, count in one.gap_reasons.items()]
    return (*([one.damage] if one.damage else []), *gaps[:4])


def nothing_used(recordings: Sequence[RecordingResults]) -> list[RecordingResults]:
    """Those of which not one sample could be made though they have frames."""
    return [one for one in recordings if not one.edge_ledger.samples and one.edge_ledger.gaps]
