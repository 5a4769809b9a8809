"""How many defects slip through, estimated from the audit lottery: the Horvitz-Thompson estimator over tracks.

Every item that screening would let pass is drawn with a known probability. A track that nothing but the lottery sent,
and which the reviewer called a defect, stands for 1/p tracks, p being the probability that any of its items was drawn
and answered (Horvitz and Thompson, 1952). The reviewer's word is taken for the truth, and what the detector never saw
is in no lottery.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_node.spool.lottery import noted_rate
from edge_node.status import reading
from fusion.clock import Clock
from fusion.errors import SpoolError
from fusion.review.layout import NOTHING
from fusion.task import Task

_TRACKS = (
    "SELECT track, sum(state = 'passed') + sum(reasons = 'audit'), max(reasons = 'audit' AND state != 'deduplicated'), "
    "max(verdict IS NOT NULL), max(reasons NOT IN ('', 'audit') AND state != 'shed') "
    "FROM items WHERE sequence >= ? GROUP BY track"
)
_VERDICTS = "SELECT track, verdict FROM items WHERE sequence >= ? AND verdict IS NOT NULL"
_Z = 1.96
EVERY_NS = 60_000_000_000
_SHARE = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackReviews:
    """One track: `entered` of its items were in the lottery, which sent one (`drawn`); screening asked about it for
    another reason, were it by the review of an item that the lottery had sent before (`screened`); the reviewer
    `answered` about any of its items, and called one a `defect`.
    """

    entered: int
    drawn: bool = False
    answered: bool = False
    screened: bool = False
    defect: bool = False


@dataclass(frozen=True, slots=True)
class MissRate:
    """Share of defects (tracks) that screening misses, with a 95 % interval; None where nothing can be said. `audited`
    tracks were drawn and answered; `missed` of them were defects that nothing else sent; `found` were sent.
    """

    share: float | None
    low: float | None
    high: float | None
    audited: int
    missed: int
    found: int

    def __str__(self) -> str:
        if self.share is None or self.high is None:
            return f"not known yet ({self.audited} tracks audited, {self.found} defects sent)"
        return (
            f"{self.share:.3f} [{self.low or 0.0:.3f}, {self.high:.3f}] "
            f"({self.missed} defects found by the lottery alone in {self.audited} audited tracks, {self.found} sent)"
        )


UNKNOWN = MissRate(None, None, None, 0, 0, 0)
"""Nothing was audited yet, or could be read."""


def estimate(tracks: Iterable[TrackReviews], rate: float) -> MissRate:
    """From all tracks of a spool, items drawn with probability `rate`. What is sent and has no answer yet, or never
    will, counts as not sent, of tracks that the lottery drew and of those that screening asked about alike.
    """
    known = list(tracks)
    passed = [track for track in known if not track.screened]
    answered = _answered(track for track in passed if track.drawn)
    chances = [(track, answered * (1.0 - (1.0 - rate) ** track.entered)) for track in passed]
    weights = [1 / p for _, p in chances if p > 0]
    lost = [1 / p for track, p in chances if track.defect and p > 0]
    audited = sum(track.answered and p > 0 for track, p in chances)
    found = sum(track.screened and track.defect for track in known)
    if not audited or not (lost or found):
        return MissRate(None, None, None, audited, len(lost), found)
    total, low, high = _total(lost, sum(weights) / len(weights))
    all_found = found / _answered(track for track in known if track.screened) if found else 0.0

    def share(missed: float) -> float:
        return missed / (missed + all_found) if missed + all_found else 0.0

    return MissRate(share(total), share(low), share(high), audited, len(lost), found)


def _answered(tracks: Iterable[TrackReviews]) -> float:
    """Share of `tracks` that the reviewer answered about, 0 of none."""
    each = [track.answered for track in tracks]
    return sum(each) / len(each) if each else 0.0


def _total(weights: list[float], usual: float) -> tuple[float, float, float]:
    """The sum of `weights`, one a hit, and the limits of what it stands for: gamma limits (Fay and Feuer, 1997; for one
    weight they are Poisson's), the upper one with a further hit of the `usual` weight, so that each hit raises it.
    """
    total, variance = sum(weights), sum(w * w - w for w in weights)
    low = _gamma(total, variance, -_Z)
    return total, max(low, float(len(weights))), _gamma(total + usual, variance + usual * usual - usual, _Z)


def _gamma(mean: float, variance: float, z: float) -> float:
    """The quantile of a gamma distribution at normal deviate `z`, after Wilson and Hilferty (1931). From the shape 1
    on, which the sums here have at least, the upper one is within a hundredth and the lower one never too large.
    """
    if mean <= 0:
        return 0.0
    part = max(0.0, variance) / (9 * mean * mean)
    return mean * max(0.0, 1 - part + z * math.sqrt(part)) ** 3


def is_defect(task: Task, options: Mapping[str, str]) -> bool:
    """Whether a verdict's chosen options say so, by the task's slots `condition`, or `defect`."""
    if "condition" in options:
        return options.get("object") != NOTHING and options["condition"] not in task.ordinary
    return options.get("defect") == "real"


def miss_rate(path: Path, task: Task) -> MissRate:
    """Of what a spool still holds since its lottery's rate was set, read beside a running daemon.

    Goes through all its items, a row at a time. Raises `SpoolError` when it cannot be read.
    """
    with reading(path) as db:
        noted = noted_rate(db)
        if noted is None:
            return UNKNOWN
        defects = {
            track for track, verdict in db.execute(_VERDICTS, (noted.first,)) if is_defect(task, _options(verdict))
        }
        known = (
            TrackReviews(entered, bool(drawn), bool(answered), bool(screened), track in defects)
            for track, entered, drawn, answered, screened in db.execute(_TRACKS, (noted.first,))
        )
        return estimate(known, noted.rate)


def _options(verdict: str) -> dict[str, str]:
    return {name: answer["option"] for name, answer in json.loads(verdict)["slots"].items()}


class MissRateWatch:
    """The miss rate of a spool as last measured, for whoever asks often.

    Who asks waits `patience_s` at most; until something is known it is `UNKNOWN`. It is measured in a thread of its
    own, not sooner than a minute after the last time, and fifty times as long as that took: a small device takes
    seconds to go through hundreds of thousands of items.
    """

    def __init__(self, measure: Callable[[], MissRate], clock: Clock, patience_s: float = 2.0) -> None:
        self._measure, self._clock, self._patience_s = measure, clock, patience_s
        self._thread: threading.Thread | None = None
        self._last, self._due_ns = UNKNOWN, clock.monotonic_ns()

    def latest(self) -> MissRate:
        """The last one known; begins to measure anew when it is time. From one thread at a time."""
        idle = self._thread is None or not self._thread.is_alive()
        if idle and self._clock.monotonic_ns() >= self._due_ns:
            self._thread = threading.Thread(target=self._go, name="miss-rate", daemon=True)
            self._thread.start()
            self._thread.join(self._patience_s)
        return self._last

    def join(self) -> None:
        """Wait until nothing is being measured."""
        if self._thread:
            self._thread.join()

    def _go(self) -> None:
        began_ns = self._clock.monotonic_ns()
        try:
            self._last = self._measure()
        except SpoolError as error:
            _log.warning("the miss rate is not known: %s", error)
            self._last = UNKNOWN
        ended_ns = self._clock.monotonic_ns()
        self._due_ns = began_ns + max(EVERY_NS, _SHARE * (ended_ns - began_ns))
