"""Every sample of the run for the page's browser: what was seen, what was true, and its picture where there is room.

The page gets one JSON text and draws it itself:

    {"words": [every text once], "recordings": [name], "frames": {recording: [width, height]},
     "pictures": [data: address],
     "samples": [[recording, sequence, seconds, edge ms, picture, items, truths]]}

`picture` is a place in `pictures`, the name of one of the page's large pictures, or null. An item is `[number, label,
score, state, outcome, [reason], card, x1, y1, x2, y2]` with `card` 1 where it has one, a truth `[label, condition,
fate, x1, y1, x2, y2]`, its `fate` null for what is no defect; texts are places in `words`, boxes pixels of the recorded
frame.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fusion.types import Box2D, TruthObject
from replay.report.album import Album, Moment
from replay.report.cards import anchor
from replay.report.thumbnails import Shelf
from replay.results.answers import outcome
from replay.results.fates import unit_name
from replay.results.records import ItemResult, RecordingResults, RunResults, SampleResult

MOST_SAMPLES = 6000
MOST_ITEMS = 30_000
"""Samples, and items in them, that the page can browse."""
_Named: TypeAlias = tuple[str, SampleResult]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which samples are shown, by recording, and which of them with a small picture; `total` is how many there are."""

    samples: Mapping[str, Sequence[SampleResult]]
    pictured: frozenset[Moment]
    total: int

    @property
    def count(self) -> int:
        """How many are shown."""
        return sum(map(len, self.samples.values()))


def choose(
    results: RunResults, most: int, most_items: int, most_pictures: int, drawn: frozenset[Moment]
) -> Choice:  # fmt: skip
    """Samples to browse: all, or of too many those where a defect was missed, then those where something was sent,
    then others, evenly over the run. Moments in `drawn` have a large picture already.
    """
    ranked = _ranked(results)
    sizes = {one.name: _items_by_sequence(one) for one in results.recordings}
    kept: list[_Named] = []
    room = most_items
    for name, sample in ranked:
        room -= len(sizes[name].get(sample.sequence, ()))
        if len(kept) == most or room < 0:
            break
        kept.append((name, sample))
    bare = [(name, sample.time_ns) for name, sample in kept if (name, sample.time_ns) not in drawn]
    shown: dict[str, list[SampleResult]] = defaultdict(list)
    for name, sample in kept:
        shown[name].append(sample)
    inturn = {name: sorted(samples, key=lambda sample: sample.sequence) for name, samples in shown.items()}
    return Choice(inturn, frozenset(bare[:most_pictures]), len(ranked))


def _ranked(results: RunResults) -> list[_Named]:
    telling, sent, others = list[_Named](), list[_Named](), list[_Named]()
    for one in results.recordings:
        missed = {defect.time_ns for defect in one.defects if defect.fate.missed}
        asked = {item.sequence for item in one.items if item.evidence_bytes or item.verdict}
        for sample in one.samples:
            kind = telling if sample.time_ns in missed else sent if sample.sequence in asked else others
            kind.append((one.name, sample))
    return [*telling, *sent, *_spread(others)]


def _spread(samples: Sequence[_Named]) -> Iterable[_Named]:
    """The same, so that any beginning of it is spread over the whole (bit-reversed places)."""
    bits = max(1, (len(samples) - 1).bit_length())
    places = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return (samples[place] for place in places if place < len(samples))


def _items_by_sequence(one: RecordingResults) -> dict[int, list[ItemResult]]:
    found: dict[int, list[ItemResult]] = defaultdict(list)
    for item in one.items:
        found[item.sequence].append(item)
    return found


@dataclass(slots=True)
class _Words:
    places: dict[str, int] = field(default_factory=dict)

    def place(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def browser_json(results: RunResults, choice: Choice, album: Album, shelf: Shelf, anchors: Mapping[str, str]) -> str:
    """The JSON of the module's docstring; safe inside a script element."""
    words, names = _Words(), [one.name for one in results.recordings]
    places = {moment: place for place, moment in enumerate(shelf.pictures)}
    large = {moment: picture.key for moment, picture in album.pictures.items()}
    samples = []
    for index, one in enumerate(results.recordings):
        items, writer = _items_by_sequence(one), _Writer(words, one, anchors)
        for sample in choice.samples.get(one.name, ()):
            moment = one.name, sample.time_ns
            samples.append([
                index, sample.sequence, round((sample.time_ns - one.samples[0].time_ns) / 1e9, 3),
                round(sample.edge_ms, 1), large.get(moment, places.get(moment)),
                [writer.item(item) for item in items.get(sample.sequence, ())],
                [row for thing in sample.truths or () if (row := writer.truth(thing, sample.time_ns))],
            ])  # fmt: skip
    content = {
        "words": list(words.places),
        "recordings": names,
        "frames": {names.index(name): size for name, size in _frames(album, shelf).items()},
        "pictures": [picture.data for picture in shelf.pictures.values()],
        "samples": samples,
    }
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _frames(album: Album, shelf: Shelf) -> dict[str, tuple[int, int]]:
    """The size of each recording's pictures."""
    large = {name: (picture.width, picture.height) for (name, _), picture in album.pictures.items()}
    return large | {name: (picture.width, picture.height) for (name, _), picture in shelf.pictures.items()}


class _Writer:
    def __init__(self, words: _Words, one: RecordingResults, anchors: Mapping[str, str]) -> None:
        self._place, self._one, self._anchors = words.place, one, anchors
        self._fates = {defect.name: defect.fate.value for defect in one.defects}

    def item(self, item: ItemResult) -> list[Any]:
        number = anchor(item).rpartition("-")[2]
        told = [self._place(item.state.value), self._place(outcome(item).value), [*map(self._place, item.reasons)]]
        card = int(item.id in self._anchors)
        return [number, self._place(item.label), round(item.score, 2), *told, card, *_corners(item.box)]

    def truth(self, thing: TruthObject, time_ns: int) -> list[Any] | None:
        if thing.box2d is None:
            return None
        fate = self._fates.get(unit_name(thing.track, 0 if self._one.continuous else time_ns))
        place = None if fate is None else self._place(fate)
        return [self._place(thing.label), self._place(thing.condition or ""), place, *_corners(thing.box2d)]


def _corners(box: Box2D) -> list[float]:
    return [round(value, 1) for value in (box.x1, box.y1, box.x2, box.y2)]
