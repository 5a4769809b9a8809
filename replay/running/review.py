"""Evidence from a spool through the service's own lookup, batches, reviews and ledger, in the caller's thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cloud_node.config import CloudSettings
from cloud_node.direct import DirectService
from cloud_node.ledger import SqliteLedger
from edge_node.spool import OutboxRow, Spool
from edge_node.uplink.answers import verdict_json
from fusion.clock import ManualClock
from fusion.review import Reviewer
from fusion.types import Verdict
from fusion.wire.messages import Submission
from replay.running.lane import remove_database

REVIEW_TOGETHER = 64
"""Items handed to the service at once."""
REVIEW_AT = 16 * REVIEW_TOGETHER
"""So many wait before any is reviewed while the recording is still read."""


def answer(service: DirectService, spool: Spool, rows: Sequence[OutboxRow]) -> None:
    """Have the rows reviewed, and close them with what came of it."""
    outcomes = service.review([Submission(row.item, row.evidence) for row in rows], spool.kept)
    with spool.transaction():
        for outcome in outcomes:
            verdict = outcome.message()
            text = verdict_json(verdict) if isinstance(verdict, Verdict) else None
            spool.answer(outcome.item, outcome.state, text, outcome.reason)


class AtTheEnd:
    """A `Delivery` over a perfect link to a service with all the time there is: everything, at the end at the latest.

    Whole handfuls go as soon as they wait, the same ones that would go at the end, so that a long recording's evidence
    never meets the spool's cap.
    """

    def __init__(
        self, spool: Spool, reviewers: Sequence[Reviewer], ledger: Path, cloud: CloudSettings, *, quiet: bool = False
    ) -> None:
        self._spool, self._reviewers, self._cloud, self._quiet = spool, reviewers, cloud, quiet
        self._path = ledger
        remove_database(ledger)

    def advance(self, now_ns: int) -> None:
        """Review the whole handfuls among what waits, once many do."""
        del now_ns
        if self._spool.waiting() >= REVIEW_AT:
            self._review(leave=REVIEW_TOGETHER - 1)

    def finish(self) -> None:
        """Review all that waits."""
        self._review(leave=0)

    def _review(self, leave: int) -> None:
        ledger = SqliteLedger.open(self._path, keep_evidence=self._cloud.keep_evidence)
        try:
            service = DirectService(self._reviewers, ledger, self._cloud, ManualClock())
            waiting = self._spool.waiting()
            with tqdm(total=waiting, desc="review", unit="item", disable=self._quiet or None) as progress:
                while self._spool.waiting() > leave and (rows := self._spool.pending(0, REVIEW_TOGETHER)):
                    answer(service, self._spool, rows)
                    progress.update(len(rows))
        finally:
            ledger.close()
