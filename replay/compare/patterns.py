"""What changed, in the figures that causes differ by: the detector's part, the fused part, screening, the reviewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fusion.types import Float64Array
from replay.compare.fields import AUDIT, displacement
from replay.compare.matching import Matching, Pair
from replay.results.records import ItemResult

_SCORE, _CORNER_PX, _MARGIN, _PROBABILITY = 0.002, 0.25, 0.01, 0.01
MOVED_M = 0.03
"""From here on a score, a corner, a margin, a probability, a 3-D box has moved; below it is arithmetic."""


@dataclass(frozen=True)
class Pattern:
    """Two runs' pairs and leftovers, read for causes. Shares are of the pairs unless said otherwise."""

    pairs: Sequence[Pair]
    gone: Sequence[ItemResult] = field(default_factory=tuple)
    new: Sequence[ItemResult] = field(default_factory=tuple)

    @classmethod
    def of(cls, matching: Matching) -> Pattern:
        """That of all recordings both runs have."""
        gone = [item for one in matching.recordings for item in one.gone]
        new = [item for one in matching.recordings for item in one.new]
        return cls(matching.pairs, gone, new)

    def share(self, count: float) -> float:
        """`count` as a share of the pairs; 0 of none."""
        return count / len(self.pairs) if self.pairs else 0.0

    @cached_property
    def unmatched(self) -> float:
        """Items that only one run has, as a share of all."""
        alone = len(self.gone) + len(self.new)
        return alone / (alone + 2 * len(self.pairs)) if alone else 0.0

    @cached_property
    def score_steps(self) -> Float64Array:
        """Score after minus before."""
        return np.array([pair.after.score - pair.before.score for pair in self.pairs], np.float64)

    @cached_property
    def scores_moved(self) -> float:
        """Share whose score moved."""
        return self.share(int((np.abs(self.score_steps) > _SCORE).sum()))

    @cached_property
    def boxes_moved(self) -> float:
        """Share whose box moved by a quarter of a pixel or more."""
        return self.share(sum(_corner(pair) > _CORNER_PX for pair in self.pairs))

    @cached_property
    def labels_changed(self) -> float:
        """Share of another class."""
        return self.share(sum(pair.before.label != pair.after.label for pair in self.pairs))

    @property
    def detector_same(self) -> bool:
        """Whether the detector saw the same, but for a hundredth of the items."""
        return max(self.unmatched, self.scores_moved, self.boxes_moved, self.labels_changed) <= 0.01

    @cached_property
    def margins_moved(self) -> float:
        """Share whose least sure head's margin moved."""
        return self.share(sum(_margin_step(pair) > _MARGIN for pair in self.pairs))

    @cached_property
    def device_changed(self) -> float:
        """Share that the fused heads answer otherwise."""
        return self.share(sum(pair.before.device_answers != pair.after.device_answers for pair in self.pairs))

    @cached_property
    def device_slots(self) -> Counter[str]:
        """How many answers of the fused heads changed, by slot."""
        return Counter(
            slot
            for pair in self.pairs
            for slot, answer in pair.before.device_answers.items()
            if answer != pair.after.device_answers.get(slot)
        )

    @cached_property
    def moved_m(self) -> Float64Array:
        """How far each 3-D box moved (N, 3), metres in the ego frame."""
        found = [displacement(pair.before, pair.after) for pair in self.pairs]
        return np.array([one for one in found if one], np.float64).reshape(-1, 3)

    @property
    def device_same(self) -> bool:
        """Whether the fused heads said the same, but for a hundredth of the items."""
        far = np.linalg.norm(self.moved_m, axis=1) > MOVED_M
        return max(self.device_changed, self.margins_moved, float(far.mean()) if len(far) else 0.0) <= 0.01

    @cached_property
    def gained(self) -> dict[str, list[ItemResult]]:
        """By reason to send, items that have it now and had not."""
        return _reasons((pair.after, pair.before) for pair in self.pairs)

    @cached_property
    def lost(self) -> dict[str, list[ItemResult]]:
        """By reason to send, items that had it and have it no more."""
        return _reasons((pair.before, pair.after) for pair in self.pairs)

    @cached_property
    def states_changed(self) -> Counter[tuple[str, str]]:
        """Items by state before and after, where it changed; those the lottery drew in one run are left out."""
        return Counter(
            (pair.before.state.value, pair.after.state.value)
            for pair in self.pairs
            if pair.before.state is not pair.after.state
            and AUDIT not in pair.before.reasons
            and AUDIT not in pair.after.reasons
        )

    @cached_property
    def both_reviewed(self) -> list[Pair]:
        """Pairs with a verdict in both runs."""
        return [pair for pair in self.pairs if pair.before.verdict and pair.after.verdict]

    @cached_property
    def probabilities_moved(self) -> float:
        """Share, of pairs with two verdicts, whose probabilities moved."""
        moved = sum(_probability_step(pair) > _PROBABILITY for pair in self.both_reviewed)
        return moved / len(self.both_reviewed) if self.both_reviewed else 0.0

    @cached_property
    def bytes_ratio(self) -> float:
        """Evidence bytes after over before, the median of items sent in both; 1 of none."""
        ratios = [p.after.evidence_bytes / p.before.evidence_bytes for p in self.pairs if _both_sent(p)]
        return float(np.median(ratios)) if ratios else 1.0


def _reasons(pairs: Iterable[tuple[ItemResult, ItemResult]]) -> dict[str, list[ItemResult]]:
    found: dict[str, list[ItemResult]] = {}
    for one, other in pairs:
        for reason in set(one.reasons) - set(other.reasons) - {AUDIT}:
            found.setdefault(reason, []).append(one)
    return found


def _corner(pair: Pair) -> float:
    a, b = pair.before.box, pair.after.box
    return max(abs(a.x1 - b.x1), abs(a.y1 - b.y1), abs(a.x2 - b.x2), abs(a.y2 - b.y2))


def _margin_step(pair: Pair) -> float:
    before, after = pair.before.margin, pair.after.margin
    return abs(after - before) if before is not None and after is not None else 0.0


def _both_sent(pair: Pair) -> bool:
    return bool(pair.before.evidence_bytes and pair.after.evidence_bytes)


def _probability_step(pair: Pair) -> float:
    steps = [
        abs(p - pair.after.verdict[name].probabilities.get(option, 0.0))
        for name, slot in pair.before.verdict.items()
        if name in pair.after.verdict
        for option, p in slot.probabilities.items()
    ]
    return max(steps, default=0.0)
