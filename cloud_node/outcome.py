"""How an item ended: what the ledger keeps and the device is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cloud_node.asked import joined
from fusion.errors import EvidenceError, FusionError, UnavailableError
from fusion.review import Reviewer
from fusion.types import Box2D, Box3D, Evidence, ItemId, ItemState, KeptLanes, SlotAnswer, Verdict
from fusion.wire.convert import evidence_digest
from fusion.wire.messages import Refusal, Submission


@dataclass(frozen=True, slots=True)
class Timings:
    """When and how fast. `received_ns` and `answered_ns` are the service's wall clock, the others durations.

    `thinned` is the `Level` of what was left out for want of time, 0 for nothing.
    """

    received_ns: int = 0
    answered_ns: int = 0
    queue_ns: int = 0
    review_ns: int = 0
    batch_items: int = 0
    batch_tokens: int = 0
    thinned: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item's final state, truth-free. `header` copies what the device and its detector thought.

    `verdict` is there exactly when `state` is REVIEWED; otherwise `reason` says why not. `evidence_sha256` is of the
    evidence as it was submitted. `evidence` is that, followed by what the device was asked for, about which
    `header` then says more (`cloud_node.asked`).
    """

    item: ItemId
    state: ItemState
    evidence_sha256: str
    verdict: Verdict | None = None
    reason: str = ""
    task: str = ""
    profile: str = ""
    header: Mapping[str, Any] | None = None
    timings: Timings = Timings()
    evidence: bytes | None = None

    def message(self) -> Verdict | Refusal:
        """What the device is told."""
        if self.verdict is not None:
            return self.verdict
        kind: type[FusionError] = EvidenceError if self.state is ItemState.QUARANTINED else UnavailableError
        return Refusal(self.item, kind(self.reason), None, self.state)


def reviewed(
    submission: Submission, evidence: Evidence, verdict: Verdict, timings: Timings, asked: KeptLanes | None = None
) -> Outcome:
    """The outcome of a review; `asked` is what the device gave when it was asked, and no more than fits."""
    blob, told = joined(submission.blob, asked or KeptLanes())
    return replace(
        _of(submission, timings, ItemState.REVIEWED),
        verdict=verdict,
        task=evidence.task,
        profile=evidence.profile,
        header=header_of(evidence) | told,
        evidence=blob,
    )


def refused(
    submission: Submission, evidence: Evidence | None, state: ItemState, reason: str, timings: Timings
) -> Outcome:
    """The outcome of a final refusal; `evidence` is None when it could not even be read.

    What a device sent may be quoted in `reason`; a NUL in it is spelt out, as PostgreSQL stores none.
    """
    outcome = replace(_of(submission, timings, state), reason=reason.replace("\0", "\\0"))
    if evidence is None:
        return outcome
    return replace(outcome, task=evidence.task, profile=evidence.profile, header=header_of(evidence))


def is_sure(answers: Mapping[str, SlotAnswer], confidence_floor: float) -> bool:
    """Whether every slot's confidence reaches the floor."""
    return min(answer.confidence for answer in answers.values()) >= confidence_floor


def verdict_of(
    reviewer: Reviewer,
    evidence: Evidence,
    answers: Mapping[str, SlotAnswer],
    confidence_floor: float,
    rationale: str = "",
) -> Verdict:
    """The verdict on `evidence`; uncertain when a slot is below the floor."""
    lanes = ("maps", evidence.maps), ("tokens", evidence.tokens), ("pixels", evidence.pixels)
    return Verdict(
        item=evidence.item,
        slots=dict(answers),
        uncertain=not is_sure(answers, confidence_floor),
        lanes=tuple(name for name, lane in lanes if lane is not None),
        reviewer=reviewer.name,
        prompt_sha256=reviewer.task.prompt_sha256,
        rationale=rationale,
    )


def header_of(evidence: Evidence) -> dict[str, Any]:
    """Everything of the evidence but its lanes, as JSON values."""
    return {
        "time_ns": evidence.time_ns,
        "track": evidence.track,
        "models": dict(evidence.models),
        "box": _plain(evidence.box),
        "image": [evidence.image_width, evidence.image_height],
        "class_scores": dict(evidence.class_scores),
        "opinion": {
            "label_scores": dict(evidence.opinion.label_scores),
            "condition_scores": dict(evidence.opinion.condition_scores),
            "asked_score": evidence.opinion.asked_score,
            "box3d": _plain(evidence.opinion.box3d) if evidence.opinion.box3d else None,
        },
        "reasons": [reason.value for reason in evidence.reasons],
        "value": evidence.value,
        "ages_ns": dict(evidence.ages_ns),
    }


def slots_to_json(verdict: Verdict) -> str:
    """The verdict's slots as canonical JSON; searches by answers read this text, so it stays as it is."""
    slots = {
        name: {"option": answer.option, "probabilities": dict(answer.probabilities)}
        for name, answer in verdict.slots.items()
    }
    return json.dumps(slots, sort_keys=True)


def slots_from_json(text: str) -> dict[str, SlotAnswer]:
    """The slots of `slots_to_json`."""
    return {name: SlotAnswer(answer["option"], answer["probabilities"]) for name, answer in json.loads(text).items()}


def _of(submission: Submission, timings: Timings, state: ItemState) -> Outcome:
    digest = evidence_digest(submission.blob)
    return Outcome(submission.item, state, digest, timings=timings, evidence=submission.blob)


def _plain(box: Box2D | Box3D) -> dict[str, float]:
    return {name: getattr(box, name) for name in box.__slots__}
