"""Which items get a card with pictures when there are too many: the most telling of each kind."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.types import ItemState
from replay.results.answers import Answerer, Outcome, outcome, right_slots
from replay.results.records import ItemResult

_UNREVIEWED_SHARE = 0.2
_FIRST_SHARE = 1 / 3
_ENDED_BADLY = (ItemState.QUARANTINED, ItemState.EXPIRED, ItemState.SHED)


def chosen(items: Sequence[ItemResult], most: int, first: Sequence[ItemResult] = ()) -> list[ItemResult]:
    """At most `most` items, the most telling first.

    Those of `first` come before all others, on up to a third of the places. Then come reviewed items; a fifth of the
    places at least is for items that ended badly or passed although the device was wrong about them, one a track, if
    there are any. Where reviewed ones are too many, wrong verdicts, corrected devices, doubtful verdicts and the rest
    share the places equally.
    """
    head = list({item.id: item for item in first}.values())[: round(most * _FIRST_SHARE)]
    if head:
        known = {item.id for item in head}
        return [*head, *chosen([item for item in items if item.id not in known], most - len(head))]
    others = _unreviewed(items)
    reviewed = [item for item in items if item.state is ItemState.REVIEWED]
    kept_free = min(len(others), round(most * _UNREVIEWED_SHARE))
    front = _shared(reviewed, max(0, most - kept_free))
    return [*front, *others[: most - len(front)]]


def _shared(items: Sequence[ItemResult], most: int) -> list[ItemResult]:
    kinds: list[list[ItemResult]] = [[], [], [], []]
    for item in items:
        kinds[_kind(item)].append(item)
    kinds[0].sort(key=lambda item: -_confidence(item))
    for kind in kinds[1:]:
        kind.sort(key=_confidence)
    places = [0] * len(kinds)
    while sum(places) < min(most, len(items)):
        fullest = [i for i, kind in enumerate(kinds) if places[i] < len(kind)]
        for i in fullest[: most - sum(places)]:
            places[i] += 1
    return [item for kind, number in zip(kinds, places, strict=True) for item in kind[:number]]


def _kind(item: ItemResult) -> int:
    if outcome(item) is Outcome.WRONG:
        return 0
    rival = Answerer.DEVICE if item.device_answers else Answerer.DETECTOR
    if not all(right_slots(item, rival).values()):
        return 1
    return 2 if item.uncertain or "asked_for" in item.reasons else 3


def _confidence(item: ItemResult) -> float:
    return min((answer.confidence for answer in item.verdict.values()), default=0.0)


def _unreviewed(items: Sequence[ItemResult]) -> list[ItemResult]:
    """Badly ended ones, then those passed in error; of one track the one the device was surest of."""
    bad = [item for item in items if item.state in _ENDED_BADLY]
    passed = [item for item in items if item.state is ItemState.PASSED and outcome(item) is Outcome.WRONG]
    seen: set[tuple[ItemState, int]] = set()
    kept = []
    for item in [*bad, *sorted(passed, key=lambda one: -one.score)]:
        track = (item.state, item.track)
        if item.track <= 0 or track not in seen:
            seen.add(track)
            kept.append(item)
    return kept
