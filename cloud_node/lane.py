"""One reviewer at work: its waiting items, its batcher, and the loop that feeds it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from cloud_node.batcher import Batcher, Entry
from cloud_node.config import BatchSettings
from cloud_node.cost import CostModel
from cloud_node.job import Job
from cloud_node.metrics import Metrics
from cloud_node.reviewer import BatchReviewer, Failed, RowResult
from cloud_node.warmup import warm_up
from fusion.clock import Clock
from fusion.review import ANY_PROFILE, Reviewer
from fusion.types import Evidence, ItemId

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneEvents:
    """What the lane tells its owner: items that can no longer make it, and items with their results."""

    expired: Callable[[Sequence[Job]], None]
    done: Callable[[Sequence[tuple[Job, RowResult]]], None]


class Lane:
    """Reviews what is added, batch after batch. `run` must be running; all other calls are from the same loop."""

    def __init__(
        self, reviewer: Reviewer, settings: BatchSettings, executor: Executor, clock: Clock, metrics: Metrics
    ) -> None:
        self.reviewer = reviewer
        self.cost = CostModel()
        self.failing = False
        self._settings = settings
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
                jobs = [self._jobs.pop(entry.item) for entry in decision.batch]
                events.done(await self._review(jobs, sum(entry.tokens for entry in decision.batch)))
                continue
            delay = None if decision.wake_ns is None else max(0, decision.wake_ns - now_ns) / 1e9
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._news.wait()

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
