"""Verdicts that were given already: the same evidence is put to the same reviewer once, whichever variant asks.

A reviewer's answer about a row may differ in its last bits with the row's batch mates. Rows are therefore scored one at
a time, so that an answer is a function of the evidence alone: equal for runs of one variant and of many, of one worker
and of several. Reviewers that wait for another machine or have an accelerator keep their batches; what is remembered of
them is equal to within rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusion.errors import EvidenceError, FusionError, ModelError, UnavailableError
from fusion.review import PreparedItem, Reviewer, RowsError, is_blind, waits_elsewhere
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer
from fusion.wire.convert import evidence_digest, serialize_evidence

REMEMBERED = 20_000
"""Verdicts kept, a few kilobytes each; the oldest are forgotten first, and given anew when they are asked for."""


@dataclass(slots=True)
class Verdicts:
    """Answers by reviewer and evidence; `asked` counts those that a reviewer had to be asked for."""

    most: int = REMEMBERED
    asked: int = 0
    _answers: OrderedDict[tuple[str, str], dict[str, SlotAnswer]] = field(default_factory=OrderedDict)

    def forget(self) -> None:
        """Know nothing again."""
        self._answers.clear()

    def find(self, reviewer: str, digest: str) -> dict[str, SlotAnswer] | None:
        """What `reviewer` said of the evidence with this digest, None where it was not asked or that is forgotten."""
        return self._answers.get((reviewer, digest))

    def keep(self, reviewer: str, digest: str, answers: dict[str, SlotAnswer]) -> None:
        """Remember what `reviewer` said."""
        self.asked += 1
        self._answers[reviewer, digest] = answers
        while len(self._answers) > self.most:
            self._answers.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """A prepared row: the digest of its evidence, pixels included, and the reviewer's own, None where it is known."""

    digest: str
    prepared: PreparedItem | None
    evidence: Evidence


class RememberingReviewer:
    """A `Reviewer` that asks another one only what is not among `verdicts`.

    Where that one fails, nothing is remembered any more: whoever then asks for an earlier row, to tell a broken model
    from a row that no model could answer, asks the model.
    """

    def __init__(self, reviewer: Reviewer, verdicts: Verdicts) -> None:
        self._reviewer, self._verdicts = reviewer, verdicts
        self._together = waits_elsewhere(reviewer) or _on_accelerator(reviewer)

    @property
    def name(self) -> str:
        """See `Reviewer.name`; with the fingerprint of the weights it tells whose a remembered verdict is."""
        return self._reviewer.name

    @property
    def task(self) -> Task:
        """See `Reviewer.task`."""
        return self._reviewer.task

    @property
    def profiles(self) -> frozenset[str]:
        """See `Reviewer.profiles`."""
        return self._reviewer.profiles

    @classmethod
    def load(cls, argument: str) -> RememberingReviewer:
        """Never by name: it is put around a loaded one."""
        raise ModelError(f"{argument}: a remembering reviewer has no name of its own")

    def cost(self, evidence: Evidence) -> int:
        """See `Reviewer.cost`."""
        return self._reviewer.cost(evidence)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """See `Reviewer.prepare`; evidence whose verdict is known is not decoded again."""
        digest = evidence_digest(serialize_evidence(evidence))
        if self._verdicts.find(self.name, digest) is not None:
            return PreparedItem(
                evidence.item, self.cost(evidence), _Row(digest, None, evidence), is_blind(self._reviewer, evidence)
            )
        prepared = self._reviewer.prepare(evidence)
        return PreparedItem(evidence.item, prepared.tokens, _Row(digest, prepared, evidence), prepared.blind)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """See `Reviewer.score`."""
        rows = [row.payload for row in batch if isinstance(row.payload, _Row)]
        if len(rows) != len(batch):
            raise ModelError("a row was prepared by another reviewer; prepare rows with the reviewer that scores them")
        known = [self._verdicts.find(self.name, row.digest) for row in rows]
        fresh = iter(self._ask([row for row, answers in zip(rows, known, strict=True) if answers is None]))
        told = [next(fresh) if answers is None else answers for answers in known]
        given = [dict(answers) for answers in told if not isinstance(answers, FusionError)]
        if len(given) < len(told):
            raise RowsError(told)
        return given

    def _ask(self, rows: Sequence[_Row]) -> list[dict[str, SlotAnswer] | FusionError]:
        """What the reviewer says of each row, or why it does not; what it says is remembered."""
        told: list[dict[str, SlotAnswer] | FusionError] = []
        for some in [rows] if self._together and rows else [[row] for row in rows]:
            answered = self._score([row.prepared or self._reviewer.prepare(row.evidence) for row in some])
            for row, answers in zip(some, answered, strict=True):
                if not isinstance(answers, FusionError):
                    self._verdicts.keep(self.name, row.digest, answers)
            told += answered
        return told

    def _score(self, rows: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer] | FusionError]:
        try:
            return list(self._reviewer.score(rows))
        except RowsError as error:
            told = [one if isinstance(one, FusionError) else dict(one) for one in error.rows]
            blameless = (EvidenceError, UnavailableError)
            if any(isinstance(one, FusionError) and not isinstance(one, blameless) for one in told):
                self._verdicts.forget()
            return told
        except Exception:
            self._verdicts.forget()
            raise


def _on_accelerator(reviewer: Reviewer) -> bool:
    network = getattr(reviewer, "network", None)
    device = getattr(network, "device", "cpu")
    return str(getattr(device, "type", device)) != "cpu"
