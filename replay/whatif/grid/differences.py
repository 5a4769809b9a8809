"""How far a variant is from the base, paired, and whether that is more than chance.

A paired bootstrap over whole groups (`mean_interval`), and a sign test over the same: what belongs together is drawn
together.

- Misses: a pair is a defect that both runs know. Defects of a continuous recording are drawn one by one, those of
  unrelated pictures a picture at a time.
- Bytes and reviews: a pair is one second of a recording, or one picture where they are unrelated.
- Verdicts: a pair is an item that both had reviewed; all items about one thing are drawn together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Mapping, Sequence

import numpy as np

from fusion.evaluation.bootstrap import mean_interval
from fusion.evaluation.proportion import sign_test
from replay.results.answers import Answerer, judged, right_slots
from replay.results.records import DefectResult, ItemResult, RecordingResults, RunResults
from replay.whatif.grid.measures import bytes_sent
from replay.whatif.grid.records import Difference

BLOCK_NS = 1_000_000_000


def differences(base: RunResults, other: RunResults) -> dict[str, Difference]:
    """By figure; one that cannot be compared is left out."""
    seconds = all(one.continuous for one in base.recordings)
    unit = "second of recording" if seconds else "picture"
    found = {
        "missed_share": _of_defects(base, other),
        "bytes_sent": _of_blocks(base, other, bytes_sent, unit),
        "reviews": _of_blocks(base, other, lambda item: bool(item.verdict), unit),
        "verdict_accuracy": _of_verdicts(base, other),
    }
    return {name: difference for name, difference in found.items() if difference}


def paired(
    base: Mapping[Hashable, float], other: Mapping[Hashable, float], groups: Mapping[Hashable, Hashable], unit: str
) -> Difference | None:
    """`other` less `base`, over what both have; None where they have nothing in common."""
    keys = [key for key in base if key in other]
    if not keys:
        return None
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups[key] for key in keys))}
    values = np.array([other[key] - base[key] for key in keys], np.float64)
    group = np.array([numbers[groups[key]] for key in keys])
    sums = np.bincount(group, weights=values)
    return Difference(mean_interval(values, group), len(keys), unit, sign_test(sum(sums > 0), sum(sums < 0)))


def _of_defects(base: RunResults, other: RunResults) -> Difference | None:
    groups = {_defect(one): (one.recording, one.name.partition("@")[2] or one.name) for one in base.defects}
    return paired(_misses(base.defects), _misses(other.defects), groups, "defect")


def _misses(defects: Sequence[DefectResult]) -> dict[Hashable, float]:
    return {_defect(one): float(one.fate.missed) for one in defects}


def _defect(one: DefectResult) -> Hashable:
    return one.recording, one.name


def _of_blocks(
    base: RunResults, other: RunResults, measure: Callable[[ItemResult], float], unit: str
) -> Difference | None:
    mine = [_blocks(run, measure) for run in (base, other)]
    every: dict[Hashable, float] = dict.fromkeys([*mine[0], *mine[1]], 0.0)
    return paired(every | mine[0], every | mine[1], {key: key for key in every}, unit)


def _blocks(run: RunResults, measure: Callable[[ItemResult], float]) -> dict[Hashable, float]:
    total: dict[Hashable, float] = defaultdict(float)
    for one in run.recordings:
        for sample in one.samples:
            total[_block(one, sample.time_ns)] += 0.0
        for item in one.items:
            total[_block(one, item.time_ns)] += measure(item)
    return dict(total)


def _block(one: RecordingResults, time_ns: int) -> Hashable:
    return one.name, time_ns // BLOCK_NS if one.continuous else time_ns


def _of_verdicts(base: RunResults, other: RunResults) -> Difference | None:
    items, moving = judged(base.items), {one.name for one in base.recordings if one.continuous}
    groups = {_item(item): _thing(item, moving) for item in items}
    return paired(_right(items), _right(judged(other.items)), groups, "item that both had reviewed")


def _right(items: Sequence[ItemResult]) -> dict[Hashable, float]:
    return {_item(item): float(all(right_slots(item, Answerer.REVIEWER).values())) for item in items}


def _item(item: ItemResult) -> Hashable:
    """What it is about in both runs, though they may number it differently: the true thing, else its very box."""
    return item.recording, item.time_ns, item.truth.track if item.truth else item.box


def _thing(item: ItemResult, moving: Container[str]) -> Hashable:
    if item.recording not in moving:
        return item.recording, item.time_ns
    return item.recording, *(("truth", item.truth.track) if item.truth else ("track", item.track))
