"""Every true defect with what became of it, the worst first, and the item that tells it best."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replay.report.wording import FATES
from replay.results.fates import fate_of, unit_name
from replay.results.intervals import Share, missed_share
from replay.results.records import DefectResult, Fate, ItemResult, RecordingResults, RunResults

WORST_FIRST = (
    Fate.UNSEEN,
    Fate.PASSED,
    Fate.DISMISSED,
    Fate.ELSEWHERE,
    Fate.SHED,
    Fate.QUARANTINED,
    Fate.EXPIRED,
    Fate.WAITING,
    Fate.SENT,
    Fate.FOUND,
)
"""What nobody would ever hear of comes before what was lost on the way with a word about it."""
_ORDER = {fate: place for place, fate in enumerate(WORST_FIRST)}
Unit = tuple[str, str]
"""A defect: its recording's name, and its own."""


@dataclass(frozen=True, slots=True)
class DefectRow:
    """One defect. `seconds` is when it came into clear view; `item` is the one that decided its fate, if one did,
    `after` how many seconds later that was, `anchor` the item's card.
    """

    defect: DefectResult
    seconds: float
    item: ItemResult | None
    after: float | None
    anchor: str


@dataclass(frozen=True, slots=True)
class DefectList:
    """What the page shows of a run's defects; `rows` are the worst, `fates` all of them as (fate, count, words)."""

    total: int
    missed: Share | None
    fates: tuple[tuple[Fate, int, str], ...]
    rows: tuple[DefectRow, ...]
    truthful: tuple[str, ...]
    """Recordings that tell a truth at all."""


def worst_first(defects: Iterable[DefectResult]) -> list[DefectResult]:
    """By fate; of one fate those that stayed in view longest."""
    return sorted(defects, key=lambda one: (_ORDER[one.fate], -one.moments, one.recording, one.time_ns, one.name))


def deciding(results: RunResults) -> dict[Unit, ItemResult]:
    """For each defect that has any item, the first of those that made its fate."""
    found: dict[Unit, ItemResult] = {}
    for one in results.recordings:
        fates = {defect.name: defect.fate for defect in one.defects}
        for name, items in _about(one).items():
            mine = [item for item in items if fate_of(results.task, item, reviewed=one.reviewed) is fates.get(name)]
            if mine:
                found[one.name, name] = min(mine, key=lambda item: (item.time_ns, item.id))
    return found


def _about(one: RecordingResults) -> Mapping[str, list[ItemResult]]:
    items: dict[str, list[ItemResult]] = defaultdict(list)
    for item in one.items:
        if item.truth:
            items[unit_name(item.truth.track, 0 if one.continuous else item.time_ns)].append(item)
    return items


def missed_items(results: RunResults, decided: Mapping[Unit, ItemResult]) -> list[ItemResult]:
    """The deciding items of missed defects, the worst first."""
    missed = worst_first(defect for defect in results.defects if defect.fate.missed)
    keys = ((defect.recording, defect.name) for defect in missed)
    return [decided[key] for key in keys if key in decided]


def defect_list(
    results: RunResults, decided: Mapping[Unit, ItemResult], first_ns: Mapping[str, int], anchors: Mapping[str, str],
    most: int,
) -> DefectList:  # fmt: skip
    """At most `most` rows; counts are of all."""
    counts = Counter(defect.fate for defect in results.defects)
    rows = [_row(one, decided, first_ns, anchors) for one in worst_first(results.defects)[:most]]
    truthful = tuple(one.name for one in results.recordings if any(s.truths is not None for s in one.samples))
    fates = tuple((fate, counts[fate], FATES[fate]) for fate in (*WORST_FIRST[::-1],) if counts[fate])
    return DefectList(len(results.defects), missed_share(results.defects), fates, tuple(rows), truthful)


def _row(
    defect: DefectResult, decided: Mapping[Unit, ItemResult], first_ns: Mapping[str, int], anchors: Mapping[str, str]
) -> DefectRow:
    item = decided.get((defect.recording, defect.name))
    after = (item.time_ns - defect.time_ns) / 1e9 if item else None
    seconds = (defect.time_ns - first_ns.get(defect.recording, 0)) / 1e9
    return DefectRow(defect, seconds, item, after, anchors.get(item.id, "") if item else "")
