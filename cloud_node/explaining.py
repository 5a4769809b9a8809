"""Rationales: which verdicts wait for one and until when, and one on demand from what the ledger kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cloud_node.ledger.protocol import LedgerReader
from fusion.errors import ConfigError, InputError
from fusion.review import Reviewer
from fusion.review.rationale import Explains
from fusion.types import ItemId, SlotAnswer
from fusion.wire.convert import parse_evidence

if TYPE_CHECKING:
    from cloud_node.job import Job

PATIENCE_NS = 250_000_000
"""How long an item may wait for its review because a rationale is being written; then the rationale is given up."""

COMMIT_NS = 50_000_000
"""What is left of a deadline for storing the verdict."""


class How(StrEnum):
    """What became of a wanted rationale. A verdict never fails for want of one."""

    WRITTEN = "written"
    BUSY = "busy"
    """Items waited for a review."""

    LATE = "late"
    """The deadline, or `rationale_wait_ms`, was over."""

    NOTHING = "nothing"
    """The reviewer had nothing to say: it had read nothing."""

    FAILED = "failed"


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A verdict that waits for its rationale until `until_ns` on the monotonic clock."""

    job: Job
    answers: Mapping[str, SlotAnswer]
    until_ns: int


def explain_item(reader: LedgerReader, reviewer: Reviewer, item: ItemId, max_tokens: int = 48) -> str:
    """Why the stored verdict on `item` says what it says, as `reviewer` puts it from the evidence that was kept.

    Raises `ConfigError` for a reviewer that cannot write, `InputError` where there is no verdict or too little was
    kept.
    """
    if not isinstance(reviewer, Explains):
        raise ConfigError(f"{reviewer.name} cannot say why; hf: and openai: reviewers can")
    record = reader.one(item, with_evidence=True)
    if record is None or record.outcome.verdict is None:
        raise InputError(f"{item} has no verdict in this ledger")
    outcome, verdict = record.outcome, record.outcome.verdict
    if outcome.evidence is None:
        raise InputError(f"the evidence of {item} was not kept (keep_evidence), so nobody can say why now")
    if outcome.task != reviewer.task.name:
        raise InputError(f"{item} is of task {outcome.task}, {reviewer.name} of {reviewer.task.name}")
    text = reviewer.explain(reviewer.prepare(parse_evidence(outcome.evidence)), verdict.slots, max_tokens)
    if not text:
        raise InputError(f"{reviewer.name} finds nothing to read in what was kept of {item}")
    return text
