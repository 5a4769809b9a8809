"""Differences of every metric in every slice, with intervals from a paired bootstrap over tracks.

A unit of resampling is what moves together: the items of one track in both runs, of one moment where nothing is
tracked; for defects, the defect. A resample takes the same units from both runs, so what they have in common cancels.
What the slices of an item are is told by the first run, so that both runs are judged on the same items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

import numpy as np

from fusion.evaluation.bootstrap import Interval, resampled, two_sided
from fusion.evaluation.corrections import benjamini_hochberg, holm
from fusion.task import Task
from fusion.types import Float64Array
from replay.compare.matching import Match, Matching
from replay.compare.metrics import MISSED, Metric, item_metrics, mean, missed
from replay.compare.slices import WHOLE, Slice, slices_of
from replay.compare.sums import Sums
from replay.compare.tolerances import MetricTolerances
from replay.results.records import DefectResult, ItemResult

_CORRECTIONS = {"holm": holm, "benjamini-hochberg": benjamini_hochberg}
_Unit = tuple[str, str, int]
_TOGETHER, _MOST_NUMBERS = 256, 1 << 24
"""Resamples at a time, and how many numbers they may have together."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of a slice in both runs. `interval` is of second minus first; `units` is what it rests on.

    `p` is the chance of such a difference if there were none, corrected for the number of comparisons; None where too
    few units could tell. `worse` says that it is for the worse and more than allowed and chance.
    """

    metric: str
    title: str
    unit: str
    better: int
    slice: Slice
    before: float
    after: float
    interval: Interval
    units: int
    p: float | None = None
    real: bool = False
    worse: bool = False


class _Units:
    """Numbers for units, in the order they are met."""

    def __init__(self) -> None:
        self.numbers: dict[_Unit, int] = {}

    def __call__(self, key: _Unit) -> int:
        return self.numbers.setdefault(key, len(self.numbers))


def differences(task: Task, matching: Matching, tolerances: MetricTolerances) -> list[Difference]:
    """Every metric of every slice that both runs tell, judged; the whole run's first."""
    found = [*_of_items(task, matching, tolerances), *_of_defects(matching, tolerances)]
    whole = [one for one in found if (one.slice.by, one.slice.value) == WHOLE]
    parts = [one for one in found if one.slice.by]
    return [*_judged(whole, tolerances.overall, tolerances), *_judged(parts, tolerances.slices, tolerances)]


def _of_items(task: Task, matching: Matching, tolerances: MetricTolerances) -> list[Difference]:
    metrics = [one for one in item_metrics(task) if one.name not in tolerances.ignore]
    sums, units = Sums(sum(metric.width for metric in metrics)), _Units()
    for side, key, slices, item in _placed(matching):
        told = (metric.sums(item) or (0.0,) * metric.width for metric in metrics)
        sums.add(side, units(key), slices, [*chain.from_iterable(told)])
    return _bootstrapped(metrics, sums, len(units.numbers), tolerances)


def _placed(matching: Matching) -> Iterable[tuple[int, _Unit, list[Slice], ItemResult]]:
    """Every item of both runs with its unit and slices, which a matched one has from the first run."""
    for one in matching.recordings:
        unit = _unit_of(one)
        for pair in one.pairs:
            key, slices = unit(0, pair.before), list(slices_of(pair.before))
            yield 0, key, slices, pair.before
            yield 1, key, slices, pair.after
        for item in one.gone:
            yield 0, unit(0, item), list(slices_of(item)), item
        for item in one.new:
            mine = replace(item, recording=one.before.name)
            yield 1, unit(1, item), list(slices_of(mine)), item


def _unit_of(match: Match) -> Callable[[int, ItemResult], _Unit]:
    """Of an item of either side: its track in the first run, its track in the second, or its moment."""
    name, back = match.before.name, {after: before for before, after in match.tracks.items()}

    def unit(side: int, item: ItemResult) -> _Unit:
        if item.track <= 0:
            return name, "moment", item.time_ns
        if side == 0:
            return name, "track", item.track
        return (name, "track", back[item.track]) if item.track in back else (name, "new track", item.track)

    return unit


def _of_defects(matching: Matching, tolerances: MetricTolerances) -> list[Difference]:
    if MISSED in tolerances.ignore:
        return []
    sums, units = Sums(2), _Units()
    for one in matching.recordings:
        name = one.before.name
        for side, defects in enumerate((one.before.defects, one.after.defects)):
            for defect in defects:
                unit = units((name, defect.name, 0))
                sums.add(side, unit, _slices_of_defect(name, defect), missed(defect))
    metric = Metric(MISSED, "true defects missed", -1, "share", 2, lambda _: None, mean)
    return _bootstrapped([metric], sums, len(units.numbers), tolerances)


def _slices_of_defect(recording: str, defect: DefectResult) -> list[Slice]:
    parts = [Slice("recording", recording), Slice("class", defect.label)]
    return [Slice(*WHOLE), *parts, *([Slice("condition", defect.condition)] if defect.condition else [])]


def _bootstrapped(metrics: Sequence[Metric], sums: Sums, units: int, tolerances: MetricTolerances) -> list[Difference]:
    """All metrics, whose numbers lie side by side in `sums`, on the same resamples."""
    if not units:
        return []
    parts, columns = sums.parts(), _columns(metrics)
    drawn: dict[tuple[str, Slice], list[Float64Array]] = defaultdict(list)
    together = max(1, min(_TOGETHER, _MOST_NUMBERS // units))
    for times in resampled(units, draws=tolerances.draws, seed=tolerances.seed, together=together):
        for part, told in parts.items():
            mine = times if len(told.units) == units else times[:, told.units]
            first, second = (mine @ told.sums[side] for side in (0, 1))  # (together, width)
            for metric, own in zip(metrics, columns, strict=True):
                drawn[metric.name, part].append(metric.value(second[:, own]) - metric.value(first[:, own]))
    found = [
        _difference(metric, part, told.sums[..., own], np.concatenate(drawn[metric.name, part]), tolerances)
        for metric, own in zip(metrics, columns, strict=True)
        for part, told in parts.items()
    ]
    return [one for one in found if np.isfinite(one.before) and np.isfinite(one.after)]


def _columns(metrics: Sequence[Metric]) -> list[slice]:
    """Where each metric's numbers are."""
    ends = [*accumulate(metric.width for metric in metrics)]
    return [slice(end - metric.width, end) for metric, end in zip(metrics, ends, strict=True)]


def _difference(
    metric: Metric, part: Slice, told: Float64Array, drawn: Float64Array, tolerances: MetricTolerances
) -> Difference:
    """`told` (2, units, width) are the sums by unit, `drawn` (draws,) the resampled differences."""
    before, after = (float(metric.value(told[side].sum(0))) for side in (0, 1))
    usable = drawn[np.isfinite(drawn)]
    tail = (1 - tolerances.confidence) / 2
    low, high = np.quantile(usable, [tail, 1 - tail]) if len(usable) else (np.nan, np.nan)
    interval = Interval(after - before, float(low), float(high), len(usable))
    units = int((told != 0).any(axis=(0, 2)).sum())
    differ = int((told[0] != told[1]).any(axis=1).sum())
    p = two_sided(drawn, differ) if units >= tolerances.least_units else None
    return Difference(metric.name, metric.title, metric.unit, metric.better, part, before, after, interval, units, p)


def _judged(found: list[Difference], how: str, tolerances: MetricTolerances) -> list[Difference]:
    """The same with p-values corrected, and what is for the worse."""
    judged = [one for one in found if one.p is not None]
    adjusted = dict(
        zip(map(id, judged), _CORRECTIONS[how](np.array([one.p for one in judged], np.float64)), strict=True)
    )
    done = []
    for one in found:
        p = float(adjusted[id(one)]) if id(one) in adjusted else None
        real = p is not None and p < 1 - tolerances.confidence and one.interval.excludes_zero
        lost = -one.better * one.interval.value
        done.append(replace(one, p=p, real=real, worse=real and lost > tolerances.allowed.get(one.metric, 0.0)))
    return done
