"""One reviewer at work: its waiting items, its batcher, and the loop that feeds it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from cloud_node.batcher import Batcher, Entry
from cloud_node.config import BatchSettings
from cloud_node.cost import CostModel
from cloud_node.explaining import PATIENCE_NS, How, Wanted
from cloud_node.job import Job
from cloud_node.metrics import Metrics
from cloud_node.reviewer import BatchReviewer, Failed, RowResult
from cloud_node.warmup import warm_up
from fusion.clock import Clock
from fusion.review import ANY_PROFILE, Reviewer
from fusion.review.rationale import Explains
from fusion.types import Evidence, ItemId

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneEvents:
    """What the lane tells its owner: items that can no longer make it, items with their results, and rationales."""

    expired: Callable[[Sequence[Job]], None]
    done: Callable[[Sequence[tuple[Job, RowResult]]], None]
    explained: Callable[[Wanted, str, How], None]


class Lane:
    """Reviews what is added, batch after batch. `run` must be running; all other calls are from the same loop."""

    def __init__(
        self,
        reviewer: Reviewer,
        settings: BatchSettings,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        rationale_tokens: int = 48,
    ) -> None:
        self.reviewer = reviewer
        self.cost = CostModel()
        self.failing = False
        self._settings = settings
        self._rationale_tokens = rationale_tokens
        self._batch_reviewer = BatchReviewer(reviewer)
        self._batcher = Batcher(
            max_tokens=settings.tokens,
            max_items=settings.items,
            max_delay_ns=round(settings.max_delay_ms * 1e6),
            predict_ns=self.cost.predict_ns,
        )
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._jobs: dict[ItemId, Job] = {}
        self._wanted: deque[Wanted] = deque()
        self._hold_until_ns: int | None = None
        self._news = asyncio.Event()
        self._began_ns: int | None = None

    async def warm_up(self) -> None:
        """Review made-up items, so that batches are fast and their cost is known; raises `ModelError` (`warmup`)."""
        loop = asyncio.get_running_loop()
        timed = await loop.run_in_executor(self._executor, warm_up, self.reviewer, self._settings, self._clock)
        for batch in timed:
            self.cost.observe(batch.tokens, batch.duration_ns)
            _log.info("%s: %d items in %.1f ms", self.reviewer.name, batch.items, batch.duration_ns / 1e6)

    def price(self, evidence: Evidence) -> int:
        """Cost of a review; raises `EvidenceError` for what no batch can hold or the reviewer cannot price."""
        return self._batch_reviewer.price(evidence, self._settings.tokens)

    @property
    def reads_maps(self) -> bool:
        """Whether a review tells anything without pixels."""
        return ANY_PROFILE not in self.reviewer.profiles

    def add(self, job: Job) -> None:
        """Let a priced job wait for its review."""
        entry = Entry(
            job.item, job.item.sample.device, job.tokens, job.arrival_ns, job.deadline_ns, job.submission.priority
        )
        self._jobs[job.item] = job
        self._batcher.add(entry)
        self._hurry(job)
        self._news.set()

    @property
    def can_explain(self) -> bool:
        """Whether the reviewer can say why."""
        return isinstance(self.reviewer, Explains)

    def ask_why(self, wanted: Wanted) -> None:
        """Let a verdict wait for its rationale, which is written when no batch is due."""
        self._wanted.append(wanted)
        self._news.set()

    def remove(self, job: Job) -> bool:
        """Take a job back; False when it does not wait (any more)."""
        if not self._batcher.remove(job.item):
            return False
        del self._jobs[job.item]
        return True

    def drain_ns(self) -> int:
        """How long what waits will take, as far as is known."""
        batches = -(-self._batcher.tokens // self._settings.tokens)
        return self.cost.predict_ns(min(self._batcher.tokens, self._settings.tokens)) * max(1, batches)

    def stalled(self, limit_ns: int) -> bool:
        """Whether the batch at work has been so for longer than `limit_ns`."""
        return self._began_ns is not None and self._clock.monotonic_ns() - self._began_ns > limit_ns

    async def run(self, events: LaneEvents) -> None:
        """Decide, review, report; until cancelled."""
        while True:
            self._news.clear()
            now_ns = self._clock.monotonic_ns()
            decision = self._batcher.decide(now_ns)
            if decision.expired:
                events.expired([self._jobs.pop(entry.item) for entry in decision.expired])
            if decision.batch:
                while self._wanted:
                    events.explained(self._wanted.popleft(), "", How.BUSY)
                jobs = [self._jobs.pop(entry.item) for entry in decision.batch]
                events.done(await self._review(jobs, sum(entry.tokens for entry in decision.batch)))
                continue
            if self._wanted:
                wanted = self._wanted.popleft()
                events.explained(wanted, *await self._explain(wanted))
                continue
            delay = None if decision.wake_ns is None else max(0, decision.wake_ns - now_ns) / 1e9
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._news.wait()

    def _hurry(self, job: Job) -> None:
        """A rationale that is being written must not hold a job up for long, nor beyond what its deadline bears."""
        until_ns = self._clock.monotonic_ns() + PATIENCE_NS
        if job.deadline_ns is not None:
            until_ns = min(until_ns, job.deadline_ns - 2 * self.cost.predict_ns(job.tokens))
        self._hold_until_ns = until_ns if self._hold_until_ns is None else min(self._hold_until_ns, until_ns)

    async def _explain(self, wanted: Wanted) -> tuple[str, How]:
        assert wanted.job.evidence is not None
        if not len(self._batcher):
            self._hold_until_ns = None

        def why_not() -> How | None:
            now_ns, hold_ns = self._clock.monotonic_ns(), self._hold_until_ns
            if now_ns >= wanted.until_ns:
                return How.LATE
            return How.BUSY if hold_ns is not None and now_ns >= hold_ns else None

        if (how := why_not()) is not None:
            return "", how
        explain, loop = self._batch_reviewer.explain, asyncio.get_running_loop()
        given = wanted.job.evidence, wanted.answers, self._rationale_tokens, lambda: why_not() is None
        try:
            text = await loop.run_in_executor(self._executor, explain, *given)
        except Exception:  # noqa: BLE001 a verdict never fails for want of a reason
            _log.exception("%s cannot say why of %s", self.reviewer.name, wanted.job.item)
            return "", How.FAILED
        return text, How.WRITTEN if text else why_not() or How.NOTHING

    async def _review(self, jobs: Sequence[Job], tokens: int) -> list[tuple[Job, RowResult]]:
        began_ns = self._began_ns = self._clock.monotonic_ns()
        for job in jobs:
            job.begin(began_ns, len(jobs), tokens)
        loop = asyncio.get_running_loop()
        evidence = [job.evidence for job in jobs if job.evidence is not None]
        results = await loop.run_in_executor(self._executor, self._batch_reviewer.review, evidence)
        duration_ns = self._clock.monotonic_ns() - began_ns
        self._began_ns = None
        self.failing = all(isinstance(result, Failed) for result in results)
        if not self.failing:
            self.cost.observe(tokens, duration_ns)
        for job in jobs:
            job.review_ns += duration_ns
        self._metrics.batch_items.observe(len(jobs))
        self._metrics.batch_tokens.observe(tokens)
        self._metrics.review_seconds.labels(self.reviewer.task.name).observe(duration_ns / 1e9)
        return list(zip(jobs, results, strict=True))
