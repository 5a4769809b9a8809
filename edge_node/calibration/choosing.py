"""Which threshold keeps the promise, what it costs, and what is missed all the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_node.calibration.conformal import bound, never_rising, strictest
from edge_node.calibration.trying import Fate, Trial, attempt
from edge_node.calibration.watching import Watched
from edge_node.config import ScreeningSettings
from fusion.errors import ConfigError, InputError
from fusion.types import Float64Array

GRID = 48
"""Thresholds that are tried, at most: quantiles of the suspicions seen of defects, and the ends."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is promised: at most the share `alpha` of defects is missed; at most `per_minute` items are sent a minute
    of recording and at most the share `share` of all items.
    """

    alpha: float = 0.05
    per_minute: float = float("inf")
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """One threshold on the watched recordings: `missed` is the share of defects, `promised` what the expected share of
    new ones is at most, each by itself; `by_recording` what the mean share of a new recording's is at most; `share` of
    items sent, `per_minute` of recording, `deduplicated` beside them, `sent_bytes` in all (0 where not weighed).
    """

    suspect_above: float
    missed: float
    promised: float
    by_recording: float
    share: float
    per_minute: float
    sent: int
    deduplicated: int
    sent_bytes: int
    fates: Mapping[str, int]

    def within(self, wanted: Wanted) -> bool:
        """Whether it costs no more than it may."""
        return self.per_minute <= wanted.per_minute and self.share <= wanted.share


def thresholds(recordings: Sequence[Watched], limit: int = GRID) -> list[float]:
    """From strict to loose, 1 (never) first and 0 (whatever may be a defect at all) last.

    They may be taken from the very defects that calibrate: the strictest of them that keeps a bound is never stricter
    than the strictest of all thresholds would be.
    """
    of_defects = [
        candidate.suspicion
        for watched in recordings
        for moment in watched.moments
        for candidate, unit in zip(moment.candidates, moment.units, strict=True)
        if unit is not None
    ]
    if not of_defects:
        return [1.0, 0.0]
    cuts = np.quantile(of_defects, np.linspace(1.0, 0.0, limit)).round(4).clip(0.0, 1.0)
    return sorted({1.0, 0.0, *map(float, cuts)}, reverse=True)


def losses(trials: Sequence[Sequence[Trial]]) -> NDArray[np.bool_]:
    """Missed defects (N, T) of all recordings; `trials[r][t]` is recording r under threshold t."""
    rows = [_of_one(each) for each in trials]
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.bool_)


def _of_one(each: Sequence[Trial]) -> NDArray[np.bool_]:
    return np.stack([trial.missed for trial in each], 1)


def by_recording(trials: Sequence[Sequence[Trial]]) -> Float64Array:
    """The share missed of each recording that holds defects (R, T), never rising: of one recording they have something
    in common, so that whoever calibrates on few recordings has few units, however many defects they hold.
    """
    return np.array([never_rising(_of_one(each)).mean(0) for each in trials if len(each[0].missed)])


def try_all(
    recordings: Sequence[Watched], settings: ScreeningSettings, cuts: Sequence[float], *, quiet: bool = False
) -> list[list[Trial]]:
    """Every recording under every threshold."""
    bar = tqdm(recordings, desc="thresholds", unit="recording", disable=quiet)
    return [[attempt(w, settings.model_copy(update={"suspect_above": cut})) for cut in cuts] for w in bar]


def points(recordings: Sequence[Watched], trials: Sequence[Sequence[Trial]], cuts: Sequence[float]) -> list[Point]:
    """The curve, from strict to loose. Raises `InputError` when the recordings hold no defect."""
    lost = losses(trials)
    if not lost.size:
        raise InputError("no defect comes into clear view in these recordings; calibrate with recordings of defects")
    promised, of_recordings = bound(never_rising(lost)), bound(by_recording(trials))
    minutes = max(sum(w.seconds for w in recordings) / 60, 1e-9)
    curve = []
    for place, cut in enumerate(cuts):
        here = [each[place] for each in trials]
        fates = Counter(fate.value for trial in here for fate in trial.fates)
        sent = sum(trial.sent for trial in here)
        curve.append(
            Point(
                cut, float(lost[:, place].mean()), float(promised[place]), float(of_recordings[place]),
                sent / max(1, sum(trial.items for trial in here)), sent / minutes, sent,
                sum(trial.deduplicated for trial in here), sum(trial.sent_bytes for trial in here), dict(fates),
            )
        )  # fmt: skip
    return curve


def needed(alpha: float) -> int:
    """How many units it takes at least to promise `alpha`."""
    return math.ceil(1 / alpha - 1e-9) - 1


def choose(curve: Sequence[Point], wanted: Wanted, units: int) -> Point:
    """The strictest threshold that keeps the promise. Raises `ConfigError` that says what could be promised."""
    place = strictest([point.promised for point in curve], wanted.alpha)
    if place is None:
        least, need = min(curve, key=lambda point: point.promised), needed(wanted.alpha)
        few = f"; {wanted.alpha:g} takes {need} defects at least" if units < need else ""
        why = ", ".join(f"{n} {fate}" for fate, n in sorted(least.fates.items()) if fate != Fate.SENT)
        raise ConfigError(
            f"a miss share of {wanted.alpha:g} cannot be promised from {units} defects{few}; the least is "
            f"{least.promised:.3f} at suspect_above = {least.suspect_above:g}, where are missed: {why or 'none'}"
        )
    kept = curve[place]
    if not kept.within(wanted):
        allowed = [point for point in curve if point.within(wanted)]
        could = f"; within the cap {min(p.promised for p in allowed):.3f} can be promised" if allowed else ""
        raise ConfigError(
            f"a miss share of {wanted.alpha:g} takes {kept.per_minute:.1f} reviews a minute, {kept.share:.1%} of all "
            f"items, which is more than the cap allows{could}"
        )
    return kept
