"""One reviewer at work: its waiting items, its batcher, and the loop that feeds it and its replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloud_node.config import BatchSettings
from cloud_node.job import Job, Stage
from cloud_node.lanes.ahead import ahead_of
from cloud_node.lanes.arrivals import Arrivals
from cloud_node.lanes.batcher import Batcher, Decision, Entry
from cloud_node.lanes.cost import CostModel, Slip
from cloud_node.lanes.crew import Crew, Worker
from cloud_node.lanes.explainer import Explainer, How, Wanted, Written
from cloud_node.lanes.lost import Losses
from cloud_node.lanes.retrial import Retrial
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Poisoned, RowResult, Scored
from cloud_node.lanes.scaling import Scaler
from cloud_node.metrics import Metrics
from fusion.clock import Clock
from fusion.review import ANY_PROFILE, Reviewer, replicated
from fusion.review.rationale import Explains
from fusion.types import Evidence, ItemId


@dataclass(frozen=True, slots=True)
class LaneEvents:
    """What the lane tells its owner: items that can no longer make it, and items with their results."""

    expired: Callable[[Sequence[Job]], None]
    done: Callable[[Sequence[tuple[Job, RowResult]]], None]
    explained: Callable[[Wanted, str, How], None]


@dataclass(frozen=True, slots=True)
class _Reviewed:
    """A batch that came back from `worker`."""

    worker: Worker
    jobs: Sequence[Job]
    tokens: int
    duration_ns: int
    results: Sequence[RowResult]


class Lane:
    """Reviews what is added, batch after batch, as many at once as there are replicas.

    `run` must be running; all other calls are from the same loop. A device's items begin in the batcher's order; where
    several batches fly, they may end in another.
    """

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
        self._settings = settings
        self._pricing = BatchReviewer(reviewer)
        self._crew = Crew(reviewer)
        self._batcher = self._make_batcher(settings.items, round(settings.max_delay_ms * 1e6))
        self._alone = self._make_batcher(1, 0)
        self._losses = Losses()
        self._slip = Slip()
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._jobs: dict[ItemId, Job] = {}
        self._ahead = ahead_of(reviewer, self._pricing.prepare, 2 * settings.items)
        self._explainer = Explainer(rationale_tokens, executor, clock, self.cost.predict_ns)
        self._writing: set[asyncio.Task[None]] = set()
        self._written: list[tuple[Worker, Written]] = []
        self._news = asyncio.Event()
        self._flying: set[asyncio.Task[_Reviewed]] = set()
        self._landed: list[asyncio.Task[_Reviewed]] = []
        self._arrivals = Arrivals(self._crew, settings, executor, clock, self._news.set)
        self._retrial = Retrial(self._crew, executor, clock, lambda: not self._jobs, self._news.set)

    @property
    def cost(self) -> CostModel:
        """What a batch takes, whoever scores it."""
        return self._crew.cost

    @property
    def failing(self) -> bool:
        """Whether no replica is there, or none's last batch had an answer."""
        return self._crew.failing

    async def warm_up(self) -> None:
        """Review made-up items, so that batches are fast and their cost is known; raises `ModelError` (`warmup`)."""
        await self._arrivals.warm_up()

    def price(self, evidence: Evidence) -> int:
        """Cost of a review; raises `EvidenceError` for what no batch can hold or the reviewer cannot price."""
        return self._pricing.price(evidence, self._settings.tokens)

    @property
    def reads_maps(self) -> bool:
        """Whether a review tells anything without pixels."""
        return ANY_PROFILE not in self.reviewer.profiles

    @property
    def can_explain(self) -> bool:
        """Whether the reviewer can say why."""
        return isinstance(self.reviewer, Explains)

    def ask_why(self, wanted: Wanted) -> None:
        """Let a verdict wait for its rationale, which is written when no batch is due."""
        self._explainer.ask(wanted)
        self._news.set()

    def add(self, job: Job) -> None:
        """Let a priced job wait for its review."""
        deadline_ns = job.deadline_ns
        if deadline_ns is not None:
            deadline_ns -= self._slip.reserve_ns(deadline_ns - self._clock.monotonic_ns())
        entry = Entry(
            job.item, job.item.sample.device, job.tokens, job.arrival_ns, deadline_ns, job.submission.priority
        )
        self._jobs[job.item] = job
        if self._ahead:
            self._ahead.begin(job)
        (self._alone if self._losses.goes_alone(job.item) else self._batcher).add(entry)
        self._explainer.hurry(job)
        self._news.set()

    def stored(self, job: Job, now_ns: int) -> None:
        """A job's answer is stored; what came between the promised end of its batch and now is kept of deadlines."""
        straight = [step.stage for step in job.steps[-2:]] == [Stage.SCORING, Stage.STORING]
        if straight and job.promised_ns is not None:
            self._slip.observe(now_ns - job.promised_ns)

    def remove(self, job: Job) -> bool:
        """Take a job back; False when it does not wait (any more)."""
        if not (self._batcher.remove(job.item) or self._alone.remove(job.item)):
            return False
        self._leave(job.item)
        return True

    @property
    def overloaded(self) -> bool:
        """Whether more comes than can be done, for longer than any queue would help."""
        return self._batcher.overloaded

    def drain_ns(self) -> int:
        """How long what waits will take all replicas together, as far as is known."""
        tokens = self._batcher.tokens + self._alone.tokens
        batches = -(-tokens // self._settings.tokens)
        rounds = -(-batches // max(1, self._crew.size))
        return self.cost.predict_ns(min(tokens, self._settings.tokens)) * max(1, rounds)

    def stalled(self, limit_ns: int) -> bool:
        """Whether a batch at work has been so for longer than `limit_ns`."""
        return self._crew.stalled(self._clock.monotonic_ns(), limit_ns)

    async def run(self, events: LaneEvents) -> None:
        """Decide, review, report; until cancelled."""
        several = replicated(self.reviewer)
        if several is not None:
            loop = asyncio.get_running_loop()
            several.watch(partial(_set_from_afar, loop, self._news))
        try:
            while True:
                self._news.clear()
                self._arrivals.meet()
                self._show()
                written, reviewed = self._land()
                delay = self._step(events)
                self._tell(written, events)
                self._report(reviewed, events)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._news.wait()
        finally:
            for task in (*self._flying, *self._writing):
                task.cancel()
            self._arrivals.cancel()
            if self._ahead:
                self._ahead.close()

    async def retry(self) -> None:
        """Find out whether a reviewer that fails answers again, until cancelled."""
        await self._retrial.run()

    async def scale(self) -> None:
        """Keep as many replicas as the queue asks for, until cancelled; ends at once where the number is fixed."""
        several = replicated(self.reviewer)
        if several is None or several.limits.fixed:
            return
        scaler = Scaler(several.limits)
        while True:
            await asyncio.sleep(scaler.period_s)
            waiting_s = self.cost.predict_ns(self._batcher.tokens + self._alone.tokens) / 1e9
            several.resize(scaler.decide(self._clock.monotonic_ns(), waiting_s, self._crew.busy))

    def _step(self, events: LaneEvents) -> float | None:
        """Begin what can begin; returns for how many seconds nothing else can be decided, None until news."""
        if self._crew.size == 0:
            self._give_back(events)
            self._tell(self._explainer.give_up(), events)
            return None
        while (worker := self._crew.next()) is not None:
            now_ns = self._clock.monotonic_ns()
            decision = self._decide(now_ns)
            if decision.expired:
                events.expired([self._leave(entry.item) for entry in decision.expired])
            if decision.batch:
                self._begin(worker, decision.batch)
                self._tell(self._explainer.give_up(), events)
            elif (wanted := self._explainer.next(quiet=not (len(self._batcher) or len(self._alone)))) is not None:
                self._write(worker, wanted)
            else:
                return None if decision.wake_ns is None else max(0, decision.wake_ns - now_ns) / 1e9
        return None

    def _decide(self, now_ns: int) -> Decision:
        suspects = self._alone.decide(now_ns)
        if suspects.batch:
            return suspects
        others = self._batcher.decide(now_ns)
        return Decision(others.batch, suspects.expired + others.expired, others.wake_ns)

    def _begin(self, worker: Worker, batch: Sequence[Entry]) -> None:
        jobs = [self._jobs.pop(entry.item) for entry in batch]
        tokens = sum(entry.tokens for entry in batch)
        began_ns = self._clock.monotonic_ns()
        self._crew.engage(worker, began_ns)
        duration_ns = self._crew.predict_ns(tokens)
        for job in jobs:
            job.begin(began_ns, len(jobs), tokens)
            job.promised_ns = began_ns + duration_ns if duration_ns else None
        review, rows = self._work(worker, jobs)
        results = asyncio.get_running_loop().run_in_executor(self._executor, review, rows)
        task = asyncio.create_task(self._review(worker, jobs, tokens, began_ns, results))
        self._flying.add(task)
        task.add_done_callback(self._landed.append)
        task.add_done_callback(lambda _: self._news.set())
        self._show()

    def _work(
        self, worker: Worker, jobs: Sequence[Job]
    ) -> tuple[Callable[[Sequence[Any]], list[RowResult]], list[Any]]:
        """What the reviewer's thread is to do, and with which rows."""
        reviewer = worker.batch_reviewer
        if self._ahead is None:
            return reviewer.review, [job.evidence for job in jobs if job.evidence is not None]
        rows = self._ahead.take(jobs)
        self._ahead.refill(self._jobs.values())
        return lambda rows: reviewer.review_prepared([row() for row in rows]), rows

    def _leave(self, item: ItemId) -> Job:
        """An item that waits no more, and is not reviewed."""
        job = self._jobs.pop(item)
        if self._ahead:
            self._ahead.forget(job)
        return job

    def _write(self, worker: Worker, wanted: Wanted) -> None:
        async def write() -> None:
            self._written.append((worker, await self._explainer.write(wanted, worker.batch_reviewer)))
            self._news.set()

        self._crew.engage(worker, self._clock.monotonic_ns())
        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _tell(self, rationales: Sequence[Written], events: LaneEvents) -> None:
        for one in rationales:
            events.explained(one.wanted, one.text, one.how)

    async def _review(
        self, worker: Worker, jobs: Sequence[Job], tokens: int, began_ns: int, results: asyncio.Future[list[RowResult]]
    ) -> _Reviewed:
        rows = await results
        return _Reviewed(worker, jobs, tokens, self._clock.monotonic_ns() - began_ns, rows)

    def _land(self) -> tuple[list[Written], list[_Reviewed]]:
        """Take in what ended, in the order in which it did. Who wrote or reviewed it is free for the next batch, which
        begins before anything is done about the last one.
        """
        written = [rationale for _, rationale in self._written]
        for worker, _ in self._written:
            self._crew.release(worker)
        self._written.clear()
        reviewed = []
        while self._landed:
            task = self._landed.pop(0)
            self._flying.discard(task)
            reviewed.append(task.result())
            self._learn(reviewed[-1])
            self._crew.release(reviewed[-1].worker)
        return written, reviewed

    def _report(self, reviewed: Sequence[_Reviewed], events: LaneEvents) -> None:
        """Hand on the results of batches that ended."""
        for batch in reviewed:
            rows = zip(batch.jobs, batch.results, strict=True)
            events.done([row for row in map(self._judge, rows) if row is not None])
            self._show()

    def _learn(self, batch: _Reviewed) -> None:
        """Rows that could not be prepared tell nothing of the reviewer, and cost nothing; blind ones tell nothing."""
        rows = zip(batch.jobs, batch.results, strict=True)
        scored = [(job, result) for job, result in rows if not isinstance(result, Poisoned) or result.scored]
        told = [result for _, result in scored if not (isinstance(result, Scored) and result.blind)]
        if told:
            batch.worker.failing = all(isinstance(result, Failed) for result in told)
            if not batch.worker.failing:
                self._crew.learn(batch.worker, sum(job.tokens for job, _ in scored), batch.duration_ns)
        for job in batch.jobs:
            job.review_ns += batch.duration_ns
        self._metrics.batch_items.observe(len(batch.jobs))
        self._metrics.batch_tokens.observe(batch.tokens)
        self._metrics.review_seconds.labels(self.reviewer.task.name).observe(batch.duration_ns / 1e9)

    def _judge(self, row: tuple[Job, RowResult]) -> tuple[Job, RowResult] | None:
        """The row's result, None where it waits again because its replica was lost and another is there."""
        job, result = row
        if not (isinstance(result, Failed) and result.lost):
            self._losses.forget(job.item)
            return row
        self._losses.add(job.item)
        if self._losses.is_poison(job.item):
            self._losses.forget(job.item)
            return job, Poisoned(f"{job.item}: replicas of the reviewer end when they review it")
        if self._crew.size == 0:
            return row
        job.enter(Stage.WAITING, self._clock.monotonic_ns())
        self.add(job)
        return None

    def _give_back(self, events: LaneEvents) -> None:
        """Nobody is there to review: what waits may come again."""
        for waiting in (self._alone, self._batcher):
            for item in waiting.items():
                waiting.remove(item)
        jobs = [self._leave(item) for item in list(self._jobs)]
        if jobs:
            reason = f"no replica of {self.reviewer.name} is up"
            events.done([(job, Failed(f"{job.item}: {reason}", away=True)) for job in jobs])

    def _make_batcher(self, items: int, max_delay_ns: int) -> Batcher:
        return Batcher(
            max_tokens=self._settings.tokens,
            max_items=items,
            max_delay_ns=max_delay_ns,
            predict_ns=self._crew.predict_ns,
            replicas=lambda: self._crew.size,
        )

    def _show(self) -> None:
        self._metrics.replicas.labels(self.reviewer.name).set(self._crew.size)
        self._metrics.batches_open.labels(self.reviewer.name).set(len(self._flying))


def _set_from_afar(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the service ended before its replicas did
        loop.call_soon_threadsafe(event.set)
