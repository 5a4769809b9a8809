"""Every item and defect that is not the same in both runs, and how many of them are allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replay.compare.fields import FIELD_NAMES, FieldChange, compare_item
from replay.compare.matching import Match, Matching
from replay.compare.tolerances import DefectTolerances, FieldTolerances, Tolerances
from replay.results.answers import Outcome, outcome
from replay.results.records import DefectResult, ItemResult, RecordingResults

NEW, GONE = "new", "gone"
_TURNED, _PRESENCE, _SENT = 10.0, 3.0, 4.0
"""How much it matters that a right answer turned wrong, that an item is new or gone, that it was sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An item that is not the same: in both runs with `fields` beyond tolerance, or in one run only.

    `recording` is its recording's name in the first run, of one that only the second run has the name there.
    """

    recording: str
    before: ItemResult | None
    after: ItemResult | None
    fields: tuple[FieldChange, ...] = ()

    @property
    def item(self) -> ItemResult:
        """The item as the first run tells it, or the only one."""
        found = self.before or self.after
        assert found is not None
        return found

    @property
    def kinds(self) -> tuple[str, ...]:
        """What changed: names of fields, or that it is new or gone."""
        if self.before is None:
            return (NEW,)
        return tuple(one.field for one in self.fields) if self.after else (GONE,)

    @property
    def turned(self) -> str:
        """`worse` where a right answer turned wrong, `better` where it is the other way round, else nothing."""
        if self.before is None or self.after is None:
            return ""
        pair = outcome(self.before), outcome(self.after)
        return {(Outcome.RIGHT, Outcome.WRONG): "worse", (Outcome.WRONG, Outcome.RIGHT): "better"}.get(pair, "")

    @property
    def weight(self) -> float:
        """How bad it is, to show the worst first."""
        if self.before is None or self.after is None:
            return _PRESENCE + _SENT * bool(self.item.evidence_bytes) + self.item.score
        turned = {"worse": _TURNED, "better": _TURNED / 2}.get(self.turned, 0.0)
        return turned + sum(one.weight for one in self.fields)


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something differs: `count` of `total`, of which `allowed`; `largest` is the largest difference."""

    name: str
    count: int
    total: int
    allowed: int
    largest: float = 0.0

    @property
    def beyond(self) -> bool:
        """Whether that is more than allowed."""
        return self.count > self.allowed


@dataclass(frozen=True, slots=True, eq=False)
class DefectChange:
    """A true defect with another fate. None where a run does not know of it."""

    name: str
    recording: str
    before: DefectResult | None
    after: DefectResult | None

    @property
    def defect(self) -> DefectResult:
        """It, as the first run tells it or the only one."""
        found = self.before or self.after
        assert found is not None
        return found

    @property
    def newly_missed(self) -> bool:
        """Not missed before, and now."""
        return _held(self.before) and not _held(self.after)

    @property
    def newly_found(self) -> bool:
        """Not missed now, and before."""
        return _held(self.after) and not _held(self.before)


def _held(defect: DefectResult | None) -> bool:
    return defect is not None and not defect.fate.missed


def item_changes(matching: Matching, tolerances: FieldTolerances) -> tuple[list[Change], list[Tally]]:
    """Items that changed, the worst first, and how often each field differs; new and gone ones included."""
    changes: list[Change] = []
    gaps: dict[str, list[float]] = {name: [] for name in FIELD_NAMES}
    differing = dict.fromkeys(FIELD_NAMES, 0)
    for one in matching.recordings:
        for pair in one.pairs:
            compared = compare_item(pair.before, pair.after, tolerances, one.tracks)
            for name, (differs, change) in compared.items():
                gaps[name].append(change.gap if differs or name in _MEASURED else 0.0)
                differing[name] += differs
            if beyond := tuple(change for differs, change in compared.values() if differs):
                changes.append(Change(one.before.name, pair.before, pair.after, beyond))
        changes += [Change(one.before.name, item, None) for item in one.gone]
        changes += [Change(one.before.name, None, item) for item in one.new]
    for recording in matching.gone:
        changes += [Change(recording.name, item, None) for item in recording.items]
    for recording in matching.new:
        changes += [Change(recording.name, None, item) for item in recording.items]
    tallies = [
        Tally(
            name, differing[name], len(found), _allowed(getattr(tolerances, name).per_thousand, len(found)), max(found)
        )
        for name, found in gaps.items()
        if found
    ]
    return sorted(changes, key=lambda one: (-one.weight, one.item.time_ns, one.item.id)), tallies


_MEASURED = {"score", "box", "margin", "box3d", "probabilities", "evidence_bytes", "maps_bytes"}


def presence(matching: Matching, changes: Iterable[Change], tolerances: Tolerances) -> list[Tally]:
    """How many items only one run has."""
    total = sum(len(one.before.items) for one in matching.recordings) + _items(matching.gone)
    counts = {NEW: 0, GONE: 0}
    for change in changes:
        for kind in change.kinds:
            if kind in counts:
                counts[kind] += 1
    limits = {NEW: tolerances.items.new, GONE: tolerances.items.gone}
    return [Tally(kind, count, total, _allowed(limits[kind], total)) for kind, count in counts.items()]


def _items(recordings: Sequence[RecordingResults]) -> int:
    return sum(len(one.items) for one in recordings)


def _allowed(per_thousand: float, total: int) -> int:
    return int(per_thousand * total / 1000)


def defect_changes(matching: Matching) -> list[DefectChange]:
    """True defects with another fate, newly missed ones first."""
    changes = [change for one in matching.recordings for change in _defects_of(one)]
    return sorted(changes, key=lambda one: (not one.newly_missed, not one.newly_found, one.recording, one.name))


def _defects_of(one: Match) -> list[DefectChange]:
    first, second = ({defect.name: defect for defect in side.defects} for side in (one.before, one.after))
    both = ((name, first.get(name), second.get(name)) for name in {**first, **second})
    return [
        DefectChange(name, one.before.name, a, b)
        for name, a, b in both
        if (a.fate if a else None) is not (b.fate if b else None)
    ]


def defect_tallies(matching: Matching, changes: Sequence[DefectChange], tolerances: DefectTolerances) -> list[Tally]:
    """How many defects are newly missed, and newly found."""
    total = sum(len(one.before.defects) for one in matching.recordings)
    missed, found = (sum(getattr(one, name) for one in changes) for name in ("newly_missed", "newly_found"))
    return [
        Tally("newly_missed", missed, total, tolerances.newly_missed),
        Tally("newly_found", found, total, tolerances.newly_found),
    ]
