"""What is told of an item, field by field: whether two runs tell the same, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fusion.types import SendReason
from replay.compare.tolerances import ExactTolerance, FieldTolerances, NumberTolerance
from replay.results.records import ItemResult

DECISIONS = ("state", "reasons", "verdict", "probabilities", "uncertain", "lanes", "evidence_bytes", "maps_bytes")
"""Fields that follow from whether an item was sent, which the audit lottery has a say in."""
AUDIT = SendReason.AUDIT.value
_WEIGHTS = {
    "verdict": 8.0, "state": 6.0, "label": 4.0, "device": 3.0, "detector": 3.0, "uncertain": 3.0, "truth": 3.0,
    "reasons": 2.0, "box3d": 1.5,
}  # fmt: skip
OTHER_WEIGHT = 1.0
_LENGTHS = {"box": "px", "box3d": "m"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of an item in both runs, as text, and how far apart: 1 for what is the same or not."""

    field: str
    before: str
    after: str
    gap: float = 1.0

    @property
    def weight(self) -> float:
        """How much it matters to a person, compared with other fields."""
        return _WEIGHTS.get(self.field, OTHER_WEIGHT)


Compared = tuple[bool, FieldChange]
"""Whether a field is beyond its tolerance, and what it is in both."""


def compare_item(
    before: ItemResult, after: ItemResult, tolerances: FieldTolerances, tracks: Mapping[int, int]
) -> dict[str, Compared]:
    """Every field that both runs tell of this item and that is not ignored; `tracks` says which go on as which."""
    found: dict[str, Compared] = {}
    skipped = DECISIONS if lottery(before, after) else ()
    if not tolerances.track.ignore and before.track in tracks:
        change = FieldChange("track", str(tracks[before.track]), str(after.track))
        found["track"] = change.before != change.after, change
    for name, value in _EXACT.items():
        tolerance: ExactTolerance = getattr(tolerances, name)
        if tolerance.ignore or name in skipped:
            continue
        first, second = value(before), value(after)
        if first is not None and second is not None:
            found[name] = first != second, _exact(name, first, second)
    for name, gap in _NUMBERS.items():
        number: NumberTolerance = getattr(tolerances, name)
        if not number.ignore and name not in skipped and (told := gap(before, after)):
            found[name] = not number.allows(*told), _numbers(name, *told)
    return found


def lottery(before: ItemResult, after: ItemResult) -> bool:
    """Whether the audit lottery, which draws by the item's id, drew one of two items with different ids."""
    drawn = AUDIT in before.reasons, AUDIT in after.reasons
    return drawn[0] != drawn[1] and _epoch(before) != _epoch(after)


def _epoch(item: ItemResult) -> str:
    return item.id.rpartition("/")[0]


def _exact(name: str, first: object, second: object) -> FieldChange:
    """Of answers only those that differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        told = [", ".join(f"{key}: {one.get(key, '-')}" for key in names) for one in (first, second)]
        return FieldChange(name, told[0], told[1])
    return FieldChange(name, str(first) or "-", str(second) or "-")


def _numbers(name: str, before: float, after: float) -> FieldChange:
    gap = abs(after - before)
    if name in _LENGTHS:
        return FieldChange(name, "-", f"{_figure(gap)} {_LENGTHS[name]} away", gap)
    return FieldChange(name, _figure(before), _figure(after), gap)


def _figure(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def _answers(item: ItemResult) -> dict[str, str] | None:
    return {name: slot.option for name, slot in item.verdict.items()} or None


_EXACT: dict[str, Callable[[ItemResult], object]] = {
    "label": lambda item: item.label,
    "state": lambda item: item.state.value,
    "reasons": lambda item: ", ".join(sorted(set(item.reasons) - {AUDIT})),
    "verdict": _answers,
    "uncertain": lambda item: ("unsure" if item.uncertain else "sure") if item.verdict else None,
    "lanes": lambda item: ", ".join(item.lanes) if item.verdict else None,
    "device": lambda item: item.device_answers or None,
    "detector": lambda item: item.detector_answers or None,
    "truth": lambda item: item.truth_answers or None,
}


def _corner(before: ItemResult, after: ItemResult) -> tuple[float, float]:
    first, second = before.box, after.box
    pairs = ((first.x1, second.x1), (first.y1, second.y1), (first.x2, second.x2), (first.y2, second.y2))
    return 0.0, max(abs(a - b) for a, b in pairs)


def _margins(before: ItemResult, after: ItemResult) -> tuple[float, float] | None:
    if before.margin is None or after.margin is None:
        return None
    return before.margin, after.margin


def _distance(before: ItemResult, after: ItemResult) -> tuple[float, float] | None:
    moved = displacement(before, after)
    return (0.0, float(np.linalg.norm(moved))) if moved else None


def displacement(before: ItemResult, after: ItemResult) -> tuple[float, float, float] | None:
    """How far the centre of the device's 3-D box moved, in metres along the axes of the ego frame."""
    first, second = before.box3d, after.box3d
    return (second.x - first.x, second.y - first.y, second.z - first.z) if first and second else None


def _farthest(before: ItemResult, after: ItemResult) -> tuple[float, float] | None:
    """The probability that moved most, in both."""
    moved = [
        (p, after.verdict[name].probabilities.get(option, 0.0))
        for name, slot in before.verdict.items()
        if name in after.verdict
        for option, p in slot.probabilities.items()
    ]
    return max(moved, key=lambda one: abs(one[0] - one[1]), default=None)


def _bytes(name: str) -> Callable[[ItemResult, ItemResult], tuple[float, float] | None]:
    def both(before: ItemResult, after: ItemResult) -> tuple[float, float] | None:
        first, second = getattr(before, name), getattr(after, name)
        return (first, second) if before.evidence_bytes and after.evidence_bytes else None

    return both


_NUMBERS: dict[str, Callable[[ItemResult, ItemResult], tuple[float, float] | None]] = {
    "score": lambda before, after: (before.score, after.score),
    "box": _corner,
    "margin": _margins,
    "box3d": _distance,
    "probabilities": _farthest,
    "evidence_bytes": _bytes("evidence_bytes"),
    "maps_bytes": _bytes("maps_bytes"),
}
FIELD_NAMES = (*_EXACT, *_NUMBERS, "track")
