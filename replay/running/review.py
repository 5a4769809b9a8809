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


def answer(service: DirectService, spool: Spool, rows: Sequence[OutboxRow]) -> None:
    """Have the rows reviewed, and close them with what came of it."""
    outcomes = service.review([Submission(row.item, row.evidence) for row in rows], spool.kept)
    with spool.transaction():
        for outcome in outcomes:
            verdict = outcome.message()
            text = verdict_json(verdict) if isinstance(verdict, Verdict) else None
            spool.answer(outcome.item, outcome.state, text, outcome.reason)


class AtTheEnd:
    """A `Delivery` over a perfect link to a service with all the time there is: everything, once all is screened."""

    def __init__(
        self, spool: Spool, reviewers: Sequence[Reviewer], ledger: Path, cloud: CloudSettings, *, quiet: bool = False
    ) -> None:
        self._spool, self._reviewers, self._cloud, self._quiet = spool, reviewers, cloud, quiet
        self._path = ledger

    def advance(self, now_ns: int) -> None:
        """Nothing is due before the end."""

    def finish(self) -> None:
        """Review all that waits."""
        remove_database(self._path)
        ledger = SqliteLedger.open(self._path, keep_evidence=self._cloud.keep_evidence)
        try:
            service = DirectService(self._reviewers, ledger, self._cloud, ManualClock())
            total = self._spool.waiting()
            with tqdm(total=total, desc="review", unit="item", disable=self._quiet or None) as progress:
                while rows := self._spool.pending(0, REVIEW_TOGETHER):
                    answer(service, self._spool, rows)
                    progress.update(len(rows))
        finally:
            ledger.close()
