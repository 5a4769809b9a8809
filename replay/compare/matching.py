"""Which recordings, moments and items of two runs are the same: by name and content, by time, by box and track."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replay.compare.sides import content_of
from replay.compare.tolerances import MatchingSettings
from replay.results.records import ItemResult, RecordingResults, RunResults

_SAME_LABEL, _SAME_TRACK = 0.1, 0.1
"""What one label, and tracks that correspond, are worth in overlap when several boxes could be the same item."""
_ALL_TIME_NS = 2.0**63
"""No two times are farther apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The same item in both runs."""

    before: ItemResult
    after: ItemResult


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One recording in both runs. `tracks` says which track of the second run goes on as each of the first's."""

    before: RecordingResults
    after: RecordingResults
    pairs: tuple[Pair, ...]
    gone: tuple[ItemResult, ...]
    new: tuple[ItemResult, ...]
    tracks: Mapping[int, int] = field(default_factory=dict)

    @property
    def same_content(self) -> bool:
        """Whether both runs read the same bytes; unknown counts as the same."""
        first, second = content_of(self.before), content_of(self.after)
        return not first or not second or first == second


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Everything that two runs have in common, and recordings that only one of them has."""

    recordings: tuple[Match, ...]
    gone: tuple[RecordingResults, ...] = ()
    new: tuple[RecordingResults, ...] = ()

    @property
    def pairs(self) -> list[Pair]:
        """Of all recordings."""
        return [pair for one in self.recordings for pair in one.pairs]


def match(before: RunResults, after: RunResults, settings: MatchingSettings) -> Matching:
    """Match two runs."""
    both, gone, new = pair_recordings(before.recordings, after.recordings)
    return Matching(tuple(match_recording(a, b, settings) for a, b in both), tuple(gone), tuple(new))


def pair_recordings(
    before: Sequence[RecordingResults], after: Sequence[RecordingResults]
) -> tuple[list[tuple[RecordingResults, RecordingResults]], list[RecordingResults], list[RecordingResults]]:
    """The same recordings, by name, by content, or because there are no others; then those gone and new."""
    named = {one.name: one for one in after}
    pairs = [(one, named[one.name]) for one in before if one.name in named]
    taken = {one.name for one, _ in pairs}
    left = [one for one in before if one.name not in taken]
    right = [one for one in after if one.name not in taken]
    contents = {content_of(one): one for one in right if content_of(one)}
    for one in list(left):
        if other := contents.pop(content_of(one), None):
            pairs.append((one, other))
            left.remove(one)
            right.remove(other)
    if len(before) == len(after) == len(left) == 1:
        return [(left[0], right[0])], [], []
    return pairs, left, right


def match_recording(before: RecordingResults, after: RecordingResults, settings: MatchingSettings) -> Match:
    """Match the items of one recording, moment by moment."""
    first, second = by_time(before.items), by_time(after.items)
    moments = align(list(first), list(second), round(min(settings.within_ms * 1e6, _ALL_TIME_NS)))
    certain = [pair for a, b in moments for pair in _overlapping(first[a], second[b], settings.min_iou, {})]
    tracks = corresponding(certain)
    pairs: list[Pair] = []
    for a, b in moments:
        mine = _overlapping(first[a], second[b], settings.min_iou, tracks)
        used = {pair.before.id for pair in mine}, {pair.after.id for pair in mine}
        rest = [one for one in first[a] if one.id not in used[0]], [one for one in second[b] if one.id not in used[1]]
        pairs += [*mine, *_on_track(*rest, settings.min_iou_track, tracks)]
    known = {pair.before.id for pair in pairs}, {pair.after.id for pair in pairs}
    gone = tuple(item for item in before.items if item.id not in known[0])
    new = tuple(item for item in after.items if item.id not in known[1])
    return Match(before, after, tuple(pairs), gone, new, tracks)


def by_time(items: Iterable[ItemResult]) -> dict[int, list[ItemResult]]:
    """Items by their sample's time, in rising order."""
    found: dict[int, list[ItemResult]] = defaultdict(list)
    for item in sorted(items, key=lambda one: one.time_ns):
        found[item.time_ns].append(item)
    return dict(found)


def align(before: Sequence[int], after: Sequence[int], within_ns: int) -> list[tuple[int, int]]:
    """Moments that are the same: equal ones first, then the nearest that are at most `within_ns` apart; each once."""
    equal = set(before) & set(after)
    pairs = [(time, time) for time in equal]
    left = sorted(set(after) - equal)
    for time in sorted(set(before) - equal):
        place = bisect.bisect_left(left, time)
        near = min(left[max(0, place - 1) : place + 1], key=lambda other: abs(other - time), default=None)
        if near is not None and abs(near - time) <= within_ns:
            pairs.append((time, near))
            left.remove(near)
    return sorted(pairs)


def corresponding(pairs: Iterable[Pair]) -> dict[int, int]:
    """The track of the second run that most often is each track of the first; nothing where nothing is tracked."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for pair in pairs:
        if pair.before.track > 0 and pair.after.track > 0:
            counts[pair.before.track][pair.after.track] += 1
    return {track: found.most_common(1)[0][0] for track, found in counts.items()}


def _overlapping(
    before: Sequence[ItemResult], after: Sequence[ItemResult], least: float, tracks: Mapping[int, int]
) -> list[Pair]:
    """Pairs that overlap at least that much, the best first; one label and one track are preferred."""
    candidates = []
    for i, one in enumerate(before):
        for j, other in enumerate(after):
            if (iou := one.box.iou(other.box)) >= least:
                liking = _SAME_LABEL * (one.label == other.label) + _SAME_TRACK * (tracks.get(one.track) == other.track)
                candidates.append((-iou - liking, i, j))
    return _greedily(before, after, candidates)


def _on_track(
    before: Sequence[ItemResult], after: Sequence[ItemResult], least: float, tracks: Mapping[int, int]
) -> list[Pair]:
    """Pairs whose tracks correspond and whose boxes overlap at least that much."""
    candidates = [
        (-iou, i, j)
        for i, one in enumerate(before)
        for j, other in enumerate(after)
        if tracks.get(one.track) == other.track and (iou := one.box.iou(other.box)) >= least
    ]
    return _greedily(before, after, candidates)


def _greedily(
    before: Sequence[ItemResult], after: Sequence[ItemResult], candidates: list[tuple[float, int, int]]
) -> list[Pair]:
    pairs, used = [], (set[int](), set[int]())
    for _, i, j in sorted(candidates):
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            pairs.append(Pair(before[i], after[j]))
    return pairs
