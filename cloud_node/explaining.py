"""A rationale on demand: why a stored verdict says what it says, from what the ledger kept."""

from __future__ import annotations

from cloud_node.ledger.protocol import LedgerReader
from fusion.errors import ConfigError, InputError
from fusion.review import Reviewer
from fusion.review.rationale import Explains
from fusion.types import ItemId
from fusion.wire.convert import parse_evidence


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
