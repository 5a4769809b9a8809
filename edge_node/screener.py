"""Screening: which items deserve a closer look, why, and what of them was already asked.

Pure functions of the sample, the settings and what was sent before; time is the stream's. The reasons are
the design's four and the audit lottery; de-duplication makes one situation of one track one review.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_node.budget import UNLIMITED, ByteBudget, Grant
from edge_node.config import ScreeningSettings
from edge_node.tracker import TrackView
from fusion.codec import RATES, rate_named
from fusion.review.layout import NOTHING
from fusion.types import Detection, FusedObject, ItemId, ItemState, SendReason

_PATIENT = frozenset({SendReason.UNCERTAIN, SendReason.DISAGREEMENT, SendReason.NOVEL, SendReason.SUSPECT})
_WORTH = {SendReason.DISAGREEMENT: 0.5, SendReason.NOVEL: 0.5, SendReason.ASKED_FOR: 1.0, SendReason.AUDIT: 0.1}


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One item before the decision. `fused` and `novelty` (a distance) are None where nothing computes them;
    `suspicion` is how likely it is a defect, 0..1.
    """

    item: ItemId
    track: TrackView
    detection: Detection
    fused: FusedObject | None = None
    novelty: float | None = None
    suspicion: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of an item: `PENDING` is to be sent as `grant` says, `into` the item it was de-duplicated into,
    `note` says why.
    """

    item: ItemId
    state: ItemState
    reasons: tuple[SendReason, ...] = ()
    value: float = 0.0
    into: ItemId | None = None
    note: str = ""
    grant: Grant = UNLIMITED


@dataclass(frozen=True, slots=True)
class Situation:
    """What the device believes about a track: another belief is another question to the reviewer."""

    label: str
    condition: str
    asked: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    """When a track was last asked about in a situation, in which item, and how suspect it was."""

    time_ns: int
    item: ItemId
    suspicion: float = 1.0


def margin(scores: Iterable[float]) -> float:
    """The best score's lead over the second best; 1 for a lone one."""
    best = sorted(scores, reverse=True)
    return best[0] - best[1] if len(best) > 1 else 1.0


def detector_margin(detection: Detection) -> float:
    """The lead of the detector's answer, 'no object' being one of the answers."""
    scores = [float(s) for s in detection.class_scores]
    top = max(scores, default=float(detection.score))
    return margin([*scores, 1.0 - top])


def drawn(seed: int, rate: float, item: ItemId) -> bool:
    """Whether the audit lottery draws an item: a hash of its id, so the draw can be repeated and not be steered."""
    digest = hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2.0**64


@dataclass(slots=True)
class Screener:
    """Decides sample by sample. `tracking` false means that tracks mean nothing: no onset, no de-duplication."""

    settings: ScreeningSettings
    tracking: bool = True
    budget: ByteBudget = field(init=False)
    _sent: dict[int, dict[Situation, _Sent]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        finest, coarsest = (
            RATES.index(rate_named(name)) for name in (self.settings.finest_rate, self.settings.coarsest_rate)
        )
        self.budget = ByteBudget(
            self.settings.budget_bytes_per_s, self.settings.budget_burst_bytes, RATES[finest : coarsest + 1]
        )

    def decide(self, time_ns: int, candidates: Sequence[Candidate]) -> list[Decision]:
        """One decision a candidate, in their order. An item that is `PENDING` is to be encoded and then settled."""
        self.budget.refill(time_ns)
        self._forget_old(time_ns)
        decisions = [self._decide(time_ns, candidate) for candidate in candidates]
        wanted = [i for i, decision in enumerate(decisions) if decision.state is ItemState.PENDING]
        for index in sorted(wanted, key=lambda i: (-decisions[i].value, i)):
            decision, candidate = decisions[index], candidates[index]
            grant = self.budget.admit()
            if grant is None:
                decisions[index] = replace(decision, state=ItemState.SHED, note="over the byte budget")
                continue
            decisions[index] = replace(decision, grant=grant)
            if self.tracking:
                sent = self._sent.setdefault(candidate.track.track, {})
                here = _situation(candidate, self.settings.asked)
                sent[here] = _Sent(time_ns, decision.item, candidate.suspicion)
        return decisions

    def settle(self, decision: Decision, evidence_bytes: int | None) -> None:
        """What an item that was to be sent weighed; None when it could not be encoded, and so nothing was asked."""
        if evidence_bytes is None:
            self.budget.release(decision.grant)
            self._take_back(decision.item)
        else:
            self.budget.charge(decision.grant, evidence_bytes)

    def _take_back(self, item: ItemId) -> None:
        for track, sent in list(self._sent.items()):
            if any(entry.item == item for entry in sent.values()):
                self._sent[track] = {place: entry for place, entry in sent.items() if entry.item != item}

    def keep(self, tracks: Collection[int]) -> None:
        """Only these tracks go on: what was sent about any other is forgotten, since no number is used twice."""
        for track in self._sent.keys() - tracks:
            del self._sent[track]

    def forget(self) -> None:
        """Tracks ended: what was sent about them says nothing about the next ones."""
        self._sent = {}

    def _decide(self, time_ns: int, candidate: Candidate) -> Decision:
        item, settings = candidate.item, self.settings
        reasons = self._reasons(candidate)
        early = self.tracking and candidate.track.age_ns(time_ns) < settings.onset_s * 1e9
        note = "too early in its track" if early and _PATIENT & set(reasons) else ""
        if early:
            reasons = [reason for reason in reasons if reason not in _PATIENT]
        if not reasons and drawn(settings.seed, settings.audit_rate, item):
            reasons = [SendReason.AUDIT]
        doubt = 1.0 - least_margin(candidate.detection, candidate.fused) + candidate.suspicion
        value = doubt + sum(_WORTH.get(reason, 0.0) for reason in reasons)
        if not reasons:
            return Decision(item, ItemState.PASSED, (), value, note=note)
        if self.tracking and (before := self._asked_before(candidate, reasons)):
            return Decision(item, ItemState.DEDUPLICATED, tuple(reasons), value, before)
        return Decision(item, ItemState.PENDING, tuple(reasons), value)

    def _asked_before(self, candidate: Candidate, reasons: Sequence[SendReason]) -> ItemId | None:
        """The item that a candidate repeats: one of the same track in the same situation, or, where it is suspect and
        nothing else, any that was not much less suspect. The device's belief flickers on one object.
        """
        sent = self._sent.get(candidate.track.track, {})
        if before := sent.get(_situation(candidate, self.settings.asked)):
            return before.item
        if not sent or set(reasons) != {SendReason.SUSPECT}:
            return None
        rise = candidate.suspicion - max(entry.suspicion for entry in sent.values())
        latest = max(sent.values(), key=lambda entry: entry.time_ns)
        return latest.item if rise < self.settings.suspect_rise else None

    def _reasons(self, candidate: Candidate) -> list[SendReason]:
        settings, fused = self.settings, candidate.fused
        reasons = []
        if least_margin(candidate.detection, candidate.fused) < settings.uncertain_below:
            reasons.append(SendReason.UNCERTAIN)
        if fused and _disagree(candidate.detection, fused, settings.disagree_above):
            reasons.append(SendReason.DISAGREEMENT)
        if candidate.suspicion > settings.suspect_above:
            reasons.append(SendReason.SUSPECT)
        if settings.novelty and candidate.novelty is not None and candidate.novelty > settings.novelty:
            reasons.append(SendReason.NOVEL)
        if fused and fused.asked_score >= settings.asked:
            reasons.append(SendReason.ASKED_FOR)
        return reasons

    def _forget_old(self, time_ns: int) -> None:
        horizon = time_ns - round(self.settings.repeat_s * 1e9)
        for track, sent in list(self._sent.items()):
            kept = {situation: entry for situation, entry in sent.items() if entry.time_ns > horizon}
            if kept:
                self._sent[track] = kept
            else:
                del self._sent[track]

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON values, to be kept in the spool beside the cursor."""
        sent = [
            [track, s.label, s.condition, s.asked, entry.time_ns, str(entry.item), entry.suspicion]
            for track, situations in self._sent.items()
            for s, entry in situations.items()
        ]
        return {"sent": sent, "budget": self.budget.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._sent = {}
        for track, label, condition, asked, time_ns, item, *suspicion in state["sent"]:
            entry = _Sent(time_ns, ItemId.parse(item), *suspicion)
            self._sent.setdefault(track, {})[Situation(label, condition, asked)] = entry
        self.budget.restore(state["budget"])


def least_margin(detection: Detection, fused: FusedObject | None) -> float:
    """The least sure head's margin; where fusion says there is nothing, its condition head has nothing to say."""
    if fused is None or not fused.label_scores:
        return detector_margin(detection)
    margins = [margin(fused.label_scores.values())]
    if fused.condition_scores and _best(fused.label_scores) != NOTHING:
        margins.append(margin(fused.condition_scores.values()))
    return min(margins)


def _disagree(detection: Detection, fused: FusedObject, sure: float) -> bool:
    if not fused.label_scores or detection.score < sure:
        return False
    label = _best(fused.label_scores)
    return label != detection.label and fused.label_scores[label] >= sure


def _situation(candidate: Candidate, asked: float) -> Situation:
    fused = candidate.fused
    if fused is None or not fused.label_scores:
        return Situation(candidate.detection.label, "", asked=False)
    condition = _best(fused.condition_scores) if fused.condition_scores else ""
    return Situation(_best(fused.label_scores), condition, fused.asked_score >= asked)


def _best(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])
