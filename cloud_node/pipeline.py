"""The way of an item through the service: look it up, admit, review, perhaps ask for pixels, store, answer.

Everything here runs on one event loop and never blocks it. The rules it keeps: an item that has a stored answer gets
that one; an item in flight is never reviewed twice, everyone who waits for it gets its answer; a verdict or final
refusal is handed out only after the ledger stored it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from cloud_node.admission import Admission
from cloud_node.asked import worth_keeping
from cloud_node.config import CloudSettings
from cloud_node.job import Job, Listener, Stage
from cloud_node.journal import Journal
from cloud_node.lanes.explainer import How, Wanted
from cloud_node.lanes.lane import Lane, LaneEvents
from cloud_node.lanes.reviewer import Failed, Poisoned, RowResult, Scored
from cloud_node.metrics import Metrics
from cloud_node.outcome import Outcome, is_sure, refused, reviewed, verdict_of
from cloud_node.roster import Roster
from cloud_node.thinning import Level, Thinning, thin
from cloud_node.tracing import item_spans
from fusion.clock import Clock
from fusion.errors import EvidenceError, FusionError, OverloadedError, UnavailableError, UnknownProfileError
from fusion.tracing import OFF, Tracer
from fusion.types import Evidence, ItemId, ItemState, SlotAnswer
from fusion.wire.convert import evidence_digest
from fusion.wire.messages import PixelAnswer, PixelRequest, Refusal, Submission

AWAY_RETRY_S = 2.0
"""When to come back to a service that drains or whose reviewer or ledger failed."""

COMMIT_NS = 50_000_000
"""What a rationale leaves of a deadline for storing the verdict."""

UNSERVED_RETRY_S = 300.0
"""When to come back with evidence of a task or trunk that is not served: after a rollout, perhaps."""

_log = logging.getLogger(__name__)


class Pipeline:
    """Open items by id. `executors` says by reviewer where it runs. `run` must be running."""

    def __init__(
        self,
        roster: Roster,
        journal: Journal,
        settings: CloudSettings,
        executors: Mapping[str, Executor],
        clock: Clock,
        metrics: Metrics,
        tracer: Tracer = OFF,
    ) -> None:
        self._tracer = tracer
        self._roster = roster
        tokens = settings.review.rationale_tokens
        self._lanes = {
            r.name: Lane(r, settings.batch, executors[r.name], clock, metrics, tokens) for r in roster.reviewers
        }
        for name in (lane.reviewer.name for lane in self._lanes.values() if not lane.can_explain):
            if settings.review.rationale != "never":
                _log.warning("%s cannot say why: its verdicts have no rationale", name)
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._admission = Admission(settings.queue, lambda: sum(lane.drain_ns() for lane in self._lanes.values()))
        self._thinning = Thinning(enabled=settings.queue.thin)
        self._jobs: dict[ItemId, Job] = {}
        self._defect: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def warm_up(self) -> None:
        """Let every reviewer review made-up items; raises `ModelError` naming the one that cannot."""
        for lane in self._lanes.values():
            await lane.warm_up()

    async def run(self) -> None:
        """Run the ledger's writer and every lane; ends only by being cancelled or by a defect."""
        events = LaneEvents(self._expired, self._done, self._explained)
        lanes = [part for lane in self._lanes.values() for part in (lane.run(events), lane.scale(), lane.retry())]
        await asyncio.gather(self._journal.run(), self._defect, *lanes)

    @property
    def healthy(self) -> bool:
        """Whether reviews get done: the ledger takes rows, no reviewer fails or hangs."""
        limit_ns = round(self._settings.stall_seconds * 1e9)
        return not self._journal.failing and not any(
            lane.failing or lane.stalled(limit_ns) for lane in self._lanes.values()
        )

    @property
    def queue(self) -> tuple[int, int]:
        """Items that wait for a review or are in one, and their cost in tokens."""
        return self._admission.items, self._admission.tokens

    @property
    def open_items(self) -> int:
        """Items without an answer."""
        return len(self._jobs)

    def open_by_device(self) -> dict[str, tuple[int, int]]:
        """How many items of each device have no answer, and when the oldest came (monotonic)."""
        found: dict[str, tuple[int, int]] = {}
        for job in self._jobs.values():
            number, oldest_ns = found.get(job.item.sample.device, (0, job.arrival_ns))
            found[job.item.sample.device] = number + 1, min(oldest_ns, job.arrival_ns)
        return found

    def submit(self, submission: Submission, listener: Listener, *, seconds_left: float | None = None) -> None:
        """Take an item; `listener` is answered later, or at once when it must be refused."""
        self._metrics.submissions.inc()
        job = self._jobs.get(submission.item)
        if job is not None:
            self._attach(job, listener)
            return
        device = submission.item.sample.device
        try:
            self._open(device)
        except UnavailableError as error:
            self._refuse(submission.item, listener, error)
            return
        now_ns = self._clock.monotonic_ns()
        limits_ns = [submission.deadline_ms * 1_000_000] if submission.deadline_ms else []
        limits_ns += [round(seconds_left * 1e9)] if seconds_left is not None else []
        deadline_ns = now_ns + min(limits_ns) if limits_ns else None
        job = Job(submission, [listener], now_ns, self._clock.wall_ns(), deadline_ns)
        self._jobs[job.item] = job
        self.idle.clear()
        self._metrics.open_items.set(len(self._jobs))
        self._journal.find(job.item).add_done_callback(partial(self._step, self._found, job))

    def pixels(self, answer: PixelAnswer) -> None:
        """A device's answer to a request; ignored when nobody waits for it any more.

        What it gave beside pixels is stored with the evidence; it changes no review.
        """
        job = self._jobs.get(answer.item)
        if job is None or job.stage is not Stage.ASKING or job.evidence is None:
            self._metrics.pixels.labels("late").inc()
            return
        job.asked, faults = worth_keeping(job.evidence, job.submission.blob, answer.kept)
        self._metrics.count_context(job.asked, len(faults))
        if job.asked.pixels is None:
            self._metrics.pixels.labels("malformed" if answer.fault else "empty").inc()
            self._settle_without_pixels(job)
            return
        self._metrics.pixels.labels("pixels").inc()
        self._stop_asking(job)
        evidence = replace(job.evidence, pixels=job.asked.pixels)
        try:
            self._wait(job, evidence, again=True)
        except EvidenceError:
            self._settle_without_pixels(job)

    def withdraw(self, item: ItemId, listener: Listener) -> None:
        """`listener` is gone for good; its item is forgotten if nobody else waits and its review has not begun."""
        job = self._jobs.get(item)
        if job is None or listener not in job.listeners:
            return
        self._leave(job, listener)
        if job.listeners or job.stage is not Stage.WAITING or job.lane is None:
            return
        if job.lane.remove(job):
            self._leave_queue(job)
            self._close(job, UnavailableError("the caller is gone"))

    def detach(self, listener: Listener) -> None:
        """`listener` is gone, its items will come again: go on with them."""
        for job in self._jobs.values():
            if listener in job.listeners:
                self._leave(job, listener)

    def show_books(self) -> None:
        """Bring the gauges of open submissions up to date."""
        self._metrics.show_books(sum(len(job.listeners) for job in self._jobs.values()))

    def _leave(self, job: Job, listener: Listener) -> None:
        job.listeners.remove(listener)
        self._metrics.ends.labels("gone").inc()

    def _step(self, step: Callable[..., None], *arguments: object) -> None:
        """Run a callback of the loop; what it raises is a defect and ends `run`, instead of losing a job silently."""
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001 handed on to `run`
            if not self._defect.done():
                self._defect.set_exception(error)

    def _open(self, device: str) -> None:
        if self.draining:
            raise UnavailableError("the service is draining; connect again")
        self._admission.open(device)

    def _attach(self, job: Job, listener: Listener) -> None:
        if listener in job.listeners:
            self._metrics.ends.labels("repeated").inc()
            return
        job.listeners.append(listener)
        if job.stage is Stage.ASKING and listener.ask is not None:
            left_ns = max(0, job.ask_until_ns - self._clock.monotonic_ns())
            listener.ask(PixelRequest(job.item, left_ns // 1_000_000))

    def _found(self, job: Job, found: asyncio.Future[Outcome | None]) -> None:
        if isinstance(error := found.exception(), FusionError):
            self._give_back(job, UnavailableError(str(error)))
            return
        stored = found.result()
        if stored is not None:
            self._metrics.repeats.inc()
            job.repeated = True
            if stored.evidence_sha256 != evidence_digest(job.submission.blob):
                self._metrics.conflicts.inc()
            self._answer(job, stored)
            return
        try:
            job.evidence = job.submission.evidence()
            job.lane = self._lanes[self._roster.choose(job.evidence).name]
            self._wait(job, job.evidence)
        except (UnavailableError, UnknownProfileError) as error:
            self._give_back(job, error)
        except EvidenceError as error:
            self._store(job, ItemState.QUARANTINED, str(error))

    def _wait(self, job: Job, evidence: Evidence, *, again: bool = False) -> None:
        """Price the job and queue it; raises `EvidenceError` or `OverloadedError`."""
        assert job.lane is not None
        if again:
            tokens = job.lane.price(evidence)
            self._admission.enter_again(tokens)
        else:
            evidence, tokens, job.thinned = thin(evidence, self._level(job), job.lane.price)
            self._admission.enter(tokens)
        job.evidence, job.tokens = evidence, tokens
        job.enter(Stage.WAITING, self._clock.monotonic_ns())
        job.lane.add(job)
        self._show_queue()

    def _level(self, job: Job) -> Level:
        """What to leave out of a job that would wait now."""
        assert job.lane is not None
        slack_ns = None if job.deadline_ns is None else job.deadline_ns - self._clock.monotonic_ns()
        return self._thinning.decide(
            self._admission.fill, job.lane.drain_ns(), slack_ns, overloaded=job.lane.overloaded
        )

    def _expired(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._leave_queue(job)
            if job.was_read:
                self._settle_without_pixels(job)
            else:
                self._store(job, ItemState.EXPIRED, f"{job.item}: its deadline cannot be made under this load")

    def _done(self, results: Sequence[tuple[Job, RowResult]]) -> None:
        for job, result in results:
            self._leave_queue(job)
            match result:
                case Scored():
                    self._scored(job, result)
                case Failed(reason, away=True):
                    self._give_back(job, UnavailableError(reason))
                case Poisoned() | Failed() if job.was_read:
                    self._settle_without_pixels(job)
                case Poisoned(reason):
                    self._store(job, ItemState.QUARANTINED, reason)
                case Failed(reason):
                    self._give_back(job, UnavailableError(reason))

    def _scored(self, job: Job, scored: Scored) -> None:
        assert job.evidence is not None
        answers = scored.answers
        sure = is_sure(answers, self._settings.review.confidence_floor)
        ask = next((listener.ask for listener in reversed(job.listeners) if listener.ask), None)
        now_ns = self._clock.monotonic_ns()
        until_ns = job.by(now_ns + self._settings.review.pixel_timeout_ms * 1_000_000)
        if sure or job.evidence.pixels is not None or ask is None or until_ns <= now_ns:
            self._store_verdict(job, answers)
            return
        if job.lane is not None and job.lane.reads_maps and self._level(job) >= Level.NO_PICTURES:
            job.thinned = max(job.thinned, Level.NO_PICTURES)
            self._store_verdict(job, answers)
            return
        job.first, job.ask_until_ns = scored, until_ns
        job.enter(Stage.ASKING, now_ns)
        job.timer = asyncio.get_running_loop().call_later(
            (until_ns - now_ns) / 1e9, self._step, self._pixels_timed_out, job
        )
        self._metrics.pixels.labels("asked").inc()
        ask(PixelRequest(job.item, (until_ns - now_ns) // 1_000_000))

    def _pixels_timed_out(self, job: Job) -> None:
        self._metrics.pixels.labels("timeout").inc()
        self._settle_without_pixels(job)

    def _settle_without_pixels(self, job: Job) -> None:
        """The first review's answers stand."""
        assert job.first is not None
        assert job.evidence is not None
        self._stop_asking(job)
        job.evidence = replace(job.evidence, pixels=None)
        self._store_verdict(job, job.first.answers)

    def _stop_asking(self, job: Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None

    def _store_verdict(self, job: Job, answers: Mapping[str, SlotAnswer]) -> None:
        """Store what was answered, or first let the reviewer say why."""
        assert job.lane is not None
        review = self._settings.review
        wanted = review.rationale == "always" or not is_sure(answers, review.confidence_floor)
        if review.rationale == "never" or not wanted or not job.lane.can_explain:
            self._store_explained(job, answers)
            return
        until_ns = job.by(self._clock.monotonic_ns() + review.rationale_wait_ms * 1_000_000, spare_ns=COMMIT_NS)
        job.enter(Stage.EXPLAINING, self._clock.monotonic_ns())
        job.lane.ask_why(Wanted(job, answers, until_ns))

    def _explained(self, wanted: Wanted, rationale: str, how: How) -> None:
        self._metrics.rationales.labels(how.value).inc()
        self._store_explained(wanted.job, wanted.answers, rationale)

    def _store_explained(self, job: Job, answers: Mapping[str, SlotAnswer], rationale: str = "") -> None:
        assert job.evidence is not None
        assert job.lane is not None
        floor = self._settings.review.confidence_floor
        verdict = verdict_of(job.lane.reviewer, job.evidence, answers, floor, rationale)
        self._metrics.thinned.labels(job.thinned.name.lower()).inc()
        timings = job.timings(self._clock.wall_ns())
        self._commit(job, reviewed(job.submission, job.evidence, verdict, timings, job.asked))

    def _store(self, job: Job, state: ItemState, reason: str) -> None:
        timings = job.timings(self._clock.wall_ns())
        self._commit(job, refused(job.submission, job.evidence, state, reason, timings))

    def _commit(self, job: Job, outcome: Outcome) -> None:
        job.enter(Stage.STORING, self._clock.monotonic_ns())
        self._journal.store(outcome).add_done_callback(partial(self._step, self._stored, job))

    def _stored(self, job: Job, stored: asyncio.Future[Outcome]) -> None:
        if isinstance(error := stored.exception(), FusionError):
            self._give_back(job, UnavailableError(str(error)))
            return
        outcome, now_ns = stored.result(), self._clock.monotonic_ns()
        if job.lane is not None:
            job.lane.stored(job, now_ns)
        self._metrics.items.labels(outcome.task, outcome.state.value).inc()
        self._metrics.answer_seconds.observe((now_ns - job.arrival_ns) / 1e9)
        self._answer(job, outcome)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        self._close(job, outcome)
        message = outcome.message()
        self._metrics.ends.labels(outcome.state.value).inc(len(job.listeners))
        for listener in job.listeners:
            listener.answer(message)

    def _give_back(self, job: Job, error: FusionError) -> None:
        """Not now: the item is forgotten here and may come again."""
        self._close(job, error)
        for listener in job.listeners:
            self._refuse(job.item, listener, error)

    def _refuse(self, item: ItemId, listener: Listener, error: FusionError) -> None:
        delay = UNSERVED_RETRY_S if isinstance(error, UnknownProfileError) else AWAY_RETRY_S
        if isinstance(error, OverloadedError):
            delay = error.retry_after_s
        self._metrics.refusals.labels(type(error).__name__.removesuffix("Error").lower()).inc()
        self._metrics.ends.labels("shed" if isinstance(error, OverloadedError) else "refused").inc()
        listener.answer(Refusal(item, error, delay))

    def _leave_queue(self, job: Job) -> None:
        self._admission.leave(job.tokens)
        self._show_queue()

    def _show_queue(self) -> None:
        self._metrics.queue_items.set(self._admission.items)
        self._metrics.queue_tokens.set(self._admission.tokens)

    def _close(self, job: Job, end: Outcome | FusionError) -> None:
        if self._tracer.on:
            self._tracer.exporter.emit(item_spans(self._tracer, job, end, self._clock.monotonic_ns()))
        del self._jobs[job.item]
        self._admission.close(job.item.sample.device)
        self._metrics.open_items.set(len(self._jobs))
        if not self._jobs:
            self.idle.set()
