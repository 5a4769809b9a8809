"""Who reviews: the one reviewer, or its replicas as they come and go, and what is known about each."""

from __future__ import annotations

from collections import deque

from cloud_node.lanes.cost import CostModel
from cloud_node.lanes.reviewer import BatchReviewer, Memory
from fusion.review import Reviewer, replicated

KNOWN_BATCHES = 8
"""After so many a replica's durations are predicted from its own; before, from everybody's."""


class Worker:
    """One replica at work. `began_ns` is when its batch began, None while it is free."""

    def __init__(self, reviewer: Reviewer, memory: Memory) -> None:
        self.reviewer = reviewer
        self.batch_reviewer = BatchReviewer(reviewer, memory)
        self.cost = CostModel()
        self.batches = 0
        self.failing = False
        self.began_ns: int | None = None


class Crew:
    """The workers of one reviewer. All calls are from one loop, but for `BatchReviewer.review` of a worker.

    A single reviewer is a crew of one that never changes. `cost` is learnt from all.
    """

    def __init__(self, reviewer: Reviewer) -> None:
        self.reviewer = reviewer
        self.cost = CostModel()
        self._replicated = replicated(reviewer)
        self._memory = Memory()
        self._workers: list[Worker] = [] if self._replicated else [Worker(reviewer, self._memory)]
        self._free: deque[Worker] = deque(self._workers)
        self._next: Worker | None = None

    @property
    def size(self) -> int:
        """How many can score, busy or not."""
        return len(self._workers)

    @property
    def busy(self) -> int:
        """How many batches are being scored by those that stay."""
        return sum(worker.began_ns is not None for worker in self._workers)

    @property
    def failing(self) -> bool:
        """Whether nobody is there, or nobody's last batch had an answer."""
        return all(worker.failing for worker in self._workers)

    def refresh(self) -> list[Worker]:
        """Let go of replicas that left; returns workers for those that came. They are idle until `release`."""
        if self._replicated is None:
            return []
        there = {id(replica): replica for replica in self._replicated.replicas()}
        self._workers = [worker for worker in self._workers if id(worker.reviewer) in there]
        self._free = deque(worker for worker in self._free if id(worker.reviewer) in there)
        known = {id(worker.reviewer) for worker in self._workers}
        came = [Worker(replica, self._memory) for key, replica in there.items() if key not in known]
        self._workers += came
        return came

    def next(self) -> Worker | None:
        """Who is free for the longest time, None while nobody is; `predict_ns` is then about this one."""
        self._next = self._free[0] if self._free else None
        return self._next

    def engage(self, worker: Worker, now_ns: int) -> None:
        """`worker` begins a batch."""
        self._free.remove(worker)
        worker.began_ns = now_ns

    def release(self, worker: Worker) -> None:
        """`worker` is free again, unless it left meanwhile."""
        worker.began_ns = None
        if worker in self._workers:
            self._free.append(worker)

    def learn(self, worker: Worker, tokens: int, duration_ns: int) -> None:
        """A batch took so long."""
        worker.batches += 1
        worker.cost.observe(tokens, duration_ns)
        self.cost.observe(tokens, duration_ns)

    def predict_ns(self, tokens: int) -> int:
        """Duration of a batch at whoever is next."""
        known = self._next is not None and self._next.batches >= KNOWN_BATCHES
        return (self._next.cost if known and self._next else self.cost).predict_ns(tokens)

    def stalled(self, now_ns: int, limit_ns: int) -> bool:
        """Whether anybody's batch takes longer than `limit_ns`."""
        return any(w.began_ns is not None and now_ns - w.began_ns > limit_ns for w in self._workers)
