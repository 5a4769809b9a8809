"""How many defects slip through, estimated from the audit lottery: the Horvitz-Thompson estimator over tracks.

Every item that screening would let pass is drawn with a known probability. A track whose only reviews came from the
lottery, and which the reviewer called a defect, stands for 1/p tracks, p being the probability that any of its items
was drawn (Horvitz and Thompson, 1952). The reviewer's word is taken for the truth, and what the detector never saw is
in no lottery.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_node.status import reading
from fusion.review.layout import NOTHING
from fusion.task import Task
from fusion.types import SendReason

_TRACKS = (
    "SELECT track, sum(state = 'passed') + sum(reasons = 'audit'), sum(reasons = 'audit'), "
    "sum(reasons = 'audit' AND verdict IS NOT NULL) FROM items GROUP BY track"
)
_VERDICTS = "SELECT track, reasons, verdict FROM items WHERE verdict IS NOT NULL"
_Z = 1.96


@dataclass(frozen=True, slots=True)
class TrackReviews:
    """One track: `passed` items that were in the lottery, of which `drawn`, of which `answered`; whether the reviewer
    called one a defect that the lottery sent (`by_lottery`), or another reason (`by_screening`).
    """

    passed: int
    drawn: int
    answered: int
    by_lottery: bool = False
    by_screening: bool = False


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


def estimate(tracks: Iterable[TrackReviews], rate: float) -> MissRate:
    """From all tracks of a spool, items drawn with probability `rate`. Draws without an answer count as not drawn."""
    known = list(tracks)
    drawn = sum(track.drawn for track in known)
    answered = sum(track.answered for track in known) / drawn if drawn else 0.0
    chances = [1.0 - (1.0 - rate * answered) ** track.passed for track in known]
    audited = [(track, p) for track, p in zip(known, chances, strict=True) if track.answered and p > 0]
    lost = [p for track, p in audited if track.by_lottery and not track.by_screening]
    found = sum(track.by_screening for track in known)
    if not audited or not (lost or found):
        return MissRate(None, None, None, len(audited), len(lost), found)
    total, error = sum(1 / p for p in lost), math.sqrt(sum((1 - p) / p**2 for p in lost))
    most = total + _Z * error if lost else 3.0 / (sum(p for _, p in audited) / len(audited))  # the rule of three
    least = max(float(len(lost)), total - _Z * error)

    def share(missed: float) -> float:
        return missed / (missed + found) if missed + found else 0.0

    return MissRate(share(total), share(least), share(most), len(audited), len(lost), found)


def is_defect(task: Task, options: Mapping[str, str]) -> bool:
    """Whether a verdict's chosen options say so, by the task's slots `condition`, or `defect`."""
    if "condition" in options:
        return options.get("object") != NOTHING and options["condition"] not in task.ordinary
    return options.get("defect") == "real"


def miss_rate(path: Path, task: Task, rate: float) -> MissRate:
    """Of what a spool still holds, read beside a running daemon. Raises `SpoolError` when it cannot be read."""
    with reading(path) as db:
        rows, verdicts = db.execute(_TRACKS).fetchall(), db.execute(_VERDICTS).fetchall()
    lottery, screening = set[int](), set[int]()
    for track, reasons, verdict in verdicts:
        options = {name: answer["option"] for name, answer in json.loads(verdict)["slots"].items()}
        if is_defect(task, options):
            (lottery if reasons == SendReason.AUDIT else screening).add(track)
    known = [TrackReviews(p, d, a, track in lottery, track in screening) for track, p, d, a in rows]
    return estimate(known, rate)
