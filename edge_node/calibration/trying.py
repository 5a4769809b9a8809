"""What the screener would have sent of watched recordings under other settings: the screener's own code, no models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from edge_node.budget import SHARES
from edge_node.calibration.watching import Moment, Watched
from edge_node.config import ScreeningSettings
from edge_node.screener import Decision, Screener
from fusion.types import BoolArray, ItemState


class Fate(StrEnum):
    """What became of a defect. All but `SENT` are misses; of several the first in this order is told."""

    SENT = "sent"
    SHED = "over the byte budget"
    ELSEWHERE = "taken for what was sent of something else"
    PASSED = "not suspicious"
    UNSEEN = "never detected"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One recording under one setting: the `fates` of its defects by number, and what it cost. Bytes are 0 where not
    weighed.
    """

    fates: tuple[Fate, ...]
    items: int
    sent: int
    sent_bytes: int
    deduplicated: int

    @property
    def missed(self) -> BoolArray:
        """By defect, (N,)."""
        return np.array([fate is not Fate.SENT for fate in self.fates], np.bool_)


_WORST = {ItemState.PENDING: Fate.SENT, ItemState.SHED: Fate.SHED, ItemState.DEDUPLICATED: Fate.ELSEWHERE}
_ORDER = {fate: place for place, fate in enumerate(Fate)}


def attempt(watched: Watched, settings: ScreeningSettings) -> Trial:
    """Screen a watched recording. The lottery draws nothing: what it finds by luck is no part of a promise."""
    screener = Screener(settings.model_copy(update={"audit_rate": 0.0}), tracking=watched.tracking)
    fates = [Fate.UNSEEN] * len(watched.defects)
    states: Counter[ItemState] = Counter()
    weight = 0
    for moment in watched.moments:
        if moment.fresh:
            screener.forget()
        decisions = screener.decide(moment.time_ns, moment.candidates)
        weight += _charge(screener, moment, decisions)
        for unit, decision in zip(moment.units, decisions, strict=True):
            states[decision.state] += 1
            if unit is not None:
                fates[unit] = min(fates[unit], _WORST.get(decision.state, Fate.PASSED), key=_ORDER.__getitem__)
    sent, again = states[ItemState.PENDING], states[ItemState.DEDUPLICATED]
    return Trial(tuple(fates), sum(states.values()), sent, weight, again)


def _charge(screener: Screener, moment: Moment, decisions: Sequence[Decision]) -> int:
    """Settle the budget in the items' order, as the pipeline does; the bytes that were sent."""
    total = 0
    for size, decision in zip(moment.sizes, decisions, strict=True):
        if decision.state is ItemState.PENDING:
            weight = round(size * SHARES[decision.grant.rate.name])
            screener.settle(decision, weight)
            total += weight
    return total
