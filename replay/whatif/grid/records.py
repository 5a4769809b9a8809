"""What a grid came to, a row each variant: all that its table, pictures and files tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fusion.evaluation.bootstrap import Interval
from fusion.evaluation.proportion import Proportion
from replay.results.records import Fate, Number

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a variant is from the base in one figure: the mean over `n` pairs, with its 95 % interval.

    `unit` is what a pair is: a defect, a second of recording, an item that both had reviewed. `p` is the sign test's,
    over what was resampled.
    """

    interval: Interval
    n: int
    unit: str
    p: float

    @property
    def clear(self) -> bool:
        """Whether it is more than chance: zero lies outside the interval, and the signs alone say so, too.

        Of few pairs that all changed the same way, a bootstrap is too sure: it cannot draw what it has not seen.
        """
        return self.interval.excludes_zero and self.p < ALPHA


@dataclass(frozen=True, slots=True)
class GridRow:
    """One variant. `figures` by name (`FIGURES`), None where there is none; `missed` None without known defects.

    `fates` counts the defects by what became of them. `differences` from the base, by figure; the base has none.
    `best` when no other variant has fewer misses, bytes and reviews at once.
    """

    name: str
    about: str
    settings: Mapping[str, str]
    digest: str
    figures: Mapping[str, Number]
    missed: Proportion | None
    right: Proportion | None
    fates: Mapping[Fate, int]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    best: bool = False

    def number(self, figure: str) -> float | None:
        """A figure as a number, None where there is none."""
        value = self.figures.get(figure)
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class Grid:
    """All rows, the base first; `recordings` by name."""

    task: str
    recordings: tuple[str, ...]
    seconds: float
    rows: tuple[GridRow, ...]

    @property
    def base(self) -> GridRow:
        """What all others are compared with."""
        return self.rows[0]


FIGURES: Mapping[str, str] = {
    "missed_share": "share of defects missed",
    "defects": "defects that came into view",
    "defects_missed": "of which missed",
    "defects_dismissed": "of which reviewed and called fine",
    "bytes_sent": "evidence and pixels that arrived, bytes",
    "bytes_per_s": "of them a second of recording",
    "evidence_bytes_p50": "evidence of one item, median",
    "reviews": "items reviewed",
    "items": "items seen",
    "shed": "items given up, with a reason",
    "expired": "items without an answer in time",
    "verdict_accuracy": "whole verdicts right",
    "verdict_accuracy_n": "reviewed items with a known truth",
    "detector_map50": "detector mAP50",
    "edge_ms_p50": "decoded sample to decision, median",
    "edge_ms_p99": "decoded sample to decision, 99th percentile",
}
"""Every figure of a row, in order, with what it is."""
