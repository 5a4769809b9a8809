"""The service without network and event loop: the same lookup, batches, reviews, pixels and ledger, in one call.

For replay: with a manual clock the outcomes are a function of the submissions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cloud_node.asked import worth_keeping
from cloud_node.config import CloudSettings
from cloud_node.lanes.batcher import Batcher, Entry
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Poisoned, RowResult, Scored
from cloud_node.ledger import Ledger
from cloud_node.outcome import Outcome, Timings, is_sure, refused, reviewed, verdict_of
from cloud_node.roster import Roster
from fusion.clock import Clock
from fusion.errors import EvidenceError, ModelError
from fusion.review import Reviewer
from fusion.types import Evidence, ItemId, ItemState, KeptLanes
from fusion.wire.messages import Submission

Pixels = Callable[[ItemId], KeptLanes]


@dataclass(frozen=True, slots=True, eq=False)
class _Review:
    """What became of one row: the evidence as it was read (None when it could not be), the result, its timings."""

    evidence: Evidence | None
    result: RowResult
    timings: Timings


class DirectService:
    """Reviews submissions in the caller's thread; deadlines, windows and queue bounds do not apply."""

    def __init__(self, reviewers: Sequence[Reviewer], ledger: Ledger, settings: CloudSettings, clock: Clock) -> None:
        self._roster = Roster(reviewers)
        self._batch_reviewers = {reviewer.name: BatchReviewer(reviewer) for reviewer in reviewers}
        self._ledger = ledger
        self._settings = settings
        self._clock = clock

    def review(self, submissions: Sequence[Submission], pixels: Pixels | None = None) -> list[Outcome]:
        """One stored outcome a submission, in order; `pixels` answers for the device when a review is uncertain.

        Raises `UnknownProfileError` for evidence that no reviewer reads, `ModelError` when a reviewer fails.
        """
        stored = self._ledger.find([submission.item for submission in submissions])
        outcomes = {outcome.item: outcome for outcome in stored if outcome is not None}
        fresh = {one.item: one for one in submissions if one.item not in outcomes}
        reviews, asked = self._review_all(fresh, pixels)
        made = [self._outcome(fresh[item], review, asked.get(item)) for item, review in reviews.items()]
        found = self._ledger.store(made)
        outcomes |= {outcome.item: outcome for outcome in found}
        return [outcomes[submission.item] for submission in submissions]

    def _review_all(
        self, submissions: Mapping[ItemId, Submission], pixels: Pixels | None
    ) -> tuple[dict[ItemId, _Review], dict[ItemId, KeptLanes]]:
        """The review that counts of each item, and what the device gave of those it was asked about."""
        received_ns = self._clock.wall_ns()
        reviews: dict[ItemId, _Review] = {}
        asked: dict[ItemId, KeptLanes] = {}
        rows: dict[str, list[Evidence]] = {name: [] for name in self._batch_reviewers}
        for submission in submissions.values():
            try:
                evidence = submission.evidence()
            except EvidenceError as error:
                reviews[submission.item] = _Review(None, Poisoned(str(error)), Timings(received_ns))
            else:
                rows[self._roster.choose(evidence).name].append(evidence)
        for name, batch_reviewer in self._batch_reviewers.items():
            first = self._run(batch_reviewer, rows[name])
            asked |= self._ask(first, submissions, pixels)
            seen = [
                replace(review.evidence, pixels=asked[item].pixels)
                for item, review in first.items()
                if review.evidence is not None and item in asked and asked[item].pixels
            ]
            second = self._run(batch_reviewer, seen)
            reviews |= first | {i: review for i, review in second.items() if _replaces(first[i].result, review.result)}
        return reviews, asked

    def _ask(
        self, reviews: dict[ItemId, _Review], submissions: Mapping[ItemId, Submission], pixels: Pixels | None
    ) -> dict[ItemId, KeptLanes]:
        """What the device gives of the items whose review is uncertain and that came without pixels; nothing when the
        service never asks.
        """
        if pixels is None or self._settings.review.pixel_timeout_ms == 0:
            return {}
        asked = {}
        for item, review in reviews.items():
            if review.evidence is None or review.evidence.pixels or not self._uncertain(review):
                continue
            asked[item], _ = worth_keeping(review.evidence, submissions[item].blob, pixels(item))
        return asked

    def _uncertain(self, review: _Review) -> bool:
        floor = self._settings.review.confidence_floor
        return isinstance(review.result, Scored) and not is_sure(review.result.answers, floor)

    def _run(self, batch_reviewer: BatchReviewer, rows: Sequence[Evidence]) -> dict[ItemId, _Review]:
        """Review rows of one reviewer, in the batches the service would form if all came at once."""
        began_ns, received_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        limits = self._settings.batch
        batcher = Batcher(
            max_tokens=limits.tokens, max_items=limits.items, max_delay_ns=0, predict_ns=lambda _tokens: 0
        )
        evidence = {row.item: row for row in rows}
        reviews: dict[ItemId, _Review] = {}
        for row in rows:
            try:
                tokens = batch_reviewer.price(row, limits.tokens)
            except EvidenceError as error:
                reviews[row.item] = _Review(row, Poisoned(str(error)), Timings(received_ns))
            else:
                batcher.add(Entry(row.item, row.item.sample.device, tokens, began_ns))
        while batch := batcher.decide(began_ns).batch:
            start_ns = self._clock.monotonic_ns()
            mates = [evidence[entry.item] for entry in batch]
            results = batch_reviewer.review(mates)
            took_ns, tokens = self._clock.monotonic_ns() - start_ns, sum(entry.tokens for entry in batch)
            timings = Timings(received_ns, self._clock.wall_ns(), start_ns - began_ns, took_ns, len(batch), tokens)
            reviews |= {m.item: _Review(m, r, timings) for m, r in zip(mates, results, strict=True)}
        return reviews

    def _outcome(self, submission: Submission, review: _Review, asked: KeptLanes | None) -> Outcome:
        match review.result:
            case Scored(answers):
                assert review.evidence is not None
                reviewer = self._roster.choose(review.evidence)
                verdict = verdict_of(reviewer, review.evidence, answers, self._settings.review.confidence_floor)
                return reviewed(submission, review.evidence, verdict, review.timings, asked)
            case Poisoned(reason):
                return refused(submission, review.evidence, ItemState.QUARANTINED, reason, review.timings)
            case Failed(reason):
                raise ModelError(reason)


def _replaces(first: RowResult, second: RowResult) -> bool:
    """Whether the review with a picture counts, and not the one without; a reviewer that is away has to come back, and
    a first review that read nothing is none.
    """
    blind = isinstance(first, Scored) and first.blind
    return blind or isinstance(second, Scored) or (isinstance(second, Failed) and second.away)
