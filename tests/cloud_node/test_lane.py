"""What one reviewer's lane learns of it, and whether it says that it fails."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cloud_node.config import BatchSettings
from cloud_node.job import Job
from cloud_node.lanes.lane import Lane, LaneEvents
from cloud_node.lanes.reviewer import Failed, Poisoned, Scored
from cloud_node.metrics import Metrics
from fusion.clock import SystemClock
from fusion.errors import EvidenceError
from fusion.review.fixed import FixedReviewer
from fusion.wire.messages import Submission

BATCH_NS = 100_000_000


class Careful(FixedReviewer):
    """Takes 0.1 s a batch; refuses to prepare odd sequences, reads nothing of those that 4 divides, and fails while
    `broken`, but for what it does not read.
    """

    broken = False

    def prepare(self, evidence):
        if evidence.item.sample.sequence % 2:
            raise EvidenceError(f"{evidence.item}: maps are cut short")
        return replace(super().prepare(evidence), blind=evidence.item.sample.sequence % 4 == 0)

    def score(self, batch):
        if type(self).broken and not all(row.blind for row in batch):
            raise RuntimeError("CUDA error")
        return super().score(batch)


@pytest.fixture
def review(yard):
    """`async with review() as (lane, ask)`; `await ask(evidence)` gives the result of each item, of one batch."""
    Careful.broken = False

    @contextlib.asynccontextmanager
    async def run():
        clock = SystemClock()
        pool = ThreadPoolExecutor(1)
        reviewer = Careful(yard, seconds_per_batch=BATCH_NS / 1e9)
        lane = Lane(reviewer, BatchSettings(max_delay_ms=200), pool, clock, Metrics())
        results = asyncio.Queue()
        events = LaneEvents(lambda _: None, lambda rows: [results.put_nowait(row) for row in rows], lambda *_: None)
        tasks = [asyncio.create_task(part) for part in (lane.run(events), lane.retry())]

        async def ask(*evidence):
            for one in evidence:
                job = Job(Submission.of(one), [], clock.monotonic_ns(), 0, None)
                job.evidence, job.tokens = one, lane.price(one)
                lane.add(job)
            got = [await results.get() for _ in evidence]
            return {job.item.sample.sequence: result for job, result in got}

        try:
            yield lane, ask
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            pool.shutdown()

    return run


def test_rows_that_could_not_be_prepared_teach_no_durations(review, make_evidence):
    async def run():
        async with review() as (lane, ask):
            for _ in range(5):
                results = await ask(*(make_evidence(n) for n in range(1, 64, 2)))
                assert {type(result) for result in results.values()} == {Poisoned}
            assert lane.cost.predict_ns(1000) == 0
            tokens = lane.price(make_evidence(2))
            for n in (2, 4, 6):
                results = await ask(*(make_evidence(k) for k in (n, *range(1, 64, 2))))
                assert isinstance(results[n], Scored)
            assert lane.cost.predict_ns(tokens) >= BATCH_NS

    asyncio.run(run())


def test_rows_that_could_not_be_prepared_do_not_make_a_broken_reviewer_well(review, make_evidence):
    async def run():
        async with review() as (lane, ask):
            await ask(make_evidence(2))
            assert not lane.failing
            Careful.broken = True
            for evidence in ([make_evidence(6)], [make_evidence(6), make_evidence(1)], [make_evidence(1)]):
                results = await ask(*evidence)
                assert all(isinstance(result, Failed) for n, result in results.items() if n % 2 == 0)
                assert lane.failing

    asyncio.run(run())


def test_rows_of_which_nothing_is_read_do_not_make_a_broken_reviewer_well(review, make_evidence):
    async def run():
        async with review() as (lane, ask):
            await ask(make_evidence(2))
            Careful.broken = True
            for evidence in ([make_evidence(6)], [make_evidence(6), make_evidence(4)], [make_evidence(8)]):
                results = await ask(*evidence)
                assert all(isinstance(result, Failed if n == 6 else Scored) for n, result in results.items())
                assert lane.failing

    asyncio.run(run())


@pytest.mark.parametrize("worked", [True, False], ids=["it worked before", "it never worked"])
def test_a_reviewer_that_answers_again_is_noticed_though_nothing_comes(review, make_evidence, monkeypatch, worked):
    monkeypatch.setattr("cloud_node.lanes.retrial.RETRY_S", 0.05)

    async def run():
        async with review() as (lane, ask):
            if worked:
                await ask(make_evidence(2))
            Careful.broken = True
            await ask(make_evidence(6))
            await asyncio.sleep(0.5)
            assert lane.failing
            Careful.broken = False
            async with asyncio.timeout(30):
                while lane.failing:
                    await asyncio.sleep(0.01)
            assert isinstance((await ask(make_evidence(6)))[6], Scored)

    asyncio.run(run())
