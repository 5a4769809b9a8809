"""Rows made ready for their batch while the batch before them is scored.

For a reviewer that scores elsewhere: on a graphics card, in another process, on another machine. One that scores in
this process on its processor has nothing to gain: on two cores its thread and this one took turns so often that half
as many were reviewed under overload. Only so many rows are prepared ahead as the next batches can hold: what will be
given up is not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from cloud_node.job import Job
from cloud_node.lanes.reviewer import Poisoned
from cloud_node.threads import DaemonThreads
from fusion.review import PreparedItem, Reviewer, replicated, scores_here
from fusion.types import Evidence, ItemId

Row = PreparedItem | Poisoned


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    evidence: Evidence
    row: Future[Row]


class Ahead:
    """At most `most` waiting rows prepared with `prepare`, in a thread of its own."""

    def __init__(self, prepare: Callable[[Evidence], Row], most: int) -> None:
        self._prepare, self._most = prepare, most
        self._begun: dict[ItemId, _Begun] = {}
        self._thread = DaemonThreads(1, "prepare")

    def begin(self, job: Job) -> None:
        """Prepare the row of a waiting job, if there is room."""
        if len(self._begun) < self._most and job.evidence is not None:
            begun = _Begun(job.evidence, self._thread.submit(self._prepare, job.evidence))
            self._begun[job.item] = begun

    def forget(self, job: Job) -> None:
        """It does not wait any more."""
        if begun := self._begun.pop(job.item, None):
            begun.row.cancel()

    def take(self, jobs: Iterable[Job]) -> list[Callable[[], Row]]:
        """For each job's evidence, what gives its row: at once where it was prepared, by doing so where it was not."""
        return [self._giver(job.evidence, self._begun.pop(job.item, None)) for job in jobs if job.evidence is not None]

    def refill(self, waiting: Iterable[Job]) -> None:
        """Prepare more of what waits."""
        for job in waiting:
            if len(self._begun) >= self._most:
                return
            if job.item not in self._begun:
                self.begin(job)

    def close(self) -> None:
        """Prepare nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _giver(self, evidence: Evidence, begun: _Begun | None) -> Callable[[], Row]:
        if begun is None or begun.evidence is not evidence or begun.row.cancel():
            return lambda: self._prepare(evidence)
        return begun.row.result


def ahead_of(reviewer: Reviewer, prepare: Callable[[Evidence], Row], each: int) -> Ahead | None:
    """Room for `each` rows for everybody who scores at once; None where preparing would take turns with scoring, or is
    done by who scores.
    """
    several = replicated(reviewer)
    if several is None:
        return None if scores_here(reviewer) else Ahead(prepare, each)
    return None if several.preparer is None else Ahead(prepare, each * several.limits.most)
