"""Rows are prepared while the batch before them is scored, and only as many as the next batches hold."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cloud_node.config import BatchSettings
from cloud_node.job import Job, Listener
from cloud_node.lanes.ahead import Ahead
from cloud_node.lanes.lane import Lane, LaneEvents
from cloud_node.lanes.reviewer import BatchReviewer, Poisoned
from cloud_node.metrics import Metrics
from fusion.clock import ManualClock
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import EvidenceError
from fusion.review import ScaleLimits, load_reviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.wire.convert import serialize_evidence
from fusion.wire.messages import Submission

WAIT_S = 20


@pytest.fixture(scope="module")
def reviewer():
    return load_reviewer("fixed:yard")


def job_of(reviewer, seed):
    evidence, _ = synthetic_evidence(reviewer.task, synthetic_profile(task="yard"), seed)
    job = Job(Submission(evidence.item, serialize_evidence(evidence)), [Listener(lambda _: None)], 0, 0, None)
    job.evidence = evidence
    return job


class Preparing:
    """Prepares when it is let, and remembers what and in which thread."""

    def __init__(self, reviewer):
        self.batch = BatchReviewer(reviewer)
        self.go, self.began = threading.Event(), threading.Event()
        self.seen = []

    def __call__(self, evidence):
        self.seen.append((evidence.item, threading.current_thread().name))
        self.began.set()
        assert self.go.wait(WAIT_S)
        return self.batch.prepare(evidence)


@pytest.fixture
def preparing(reviewer):
    made = Preparing(reviewer)
    yield made
    made.go.set()


def rows_of(givers):
    return [giver() for giver in givers]


def test_a_row_that_is_ready_is_not_prepared_again(reviewer, preparing):
    ahead, jobs = Ahead(preparing, 4), [job_of(reviewer, n) for n in range(3)]
    preparing.go.set()
    for job in jobs:
        ahead.begin(job)
    ahead._thread.submit(lambda: None).result(WAIT_S)
    rows = rows_of(ahead.take(jobs))
    assert [row.item for row in rows] == [job.item for job in jobs]
    assert [item for item, _ in preparing.seen] == [job.item for job in jobs]
    assert all(name.startswith("prepare") for _, name in preparing.seen)
    ahead.close()


def test_no_more_are_prepared_than_there_is_room_for(reviewer, preparing):
    ahead, jobs = Ahead(preparing, 2), [job_of(reviewer, n) for n in range(5)]
    preparing.go.set()
    for job in jobs:
        ahead.begin(job)
    ahead._thread.submit(lambda: None).result(WAIT_S)
    assert [item for item, _ in preparing.seen] == [job.item for job in jobs[:2]]
    ahead.take(jobs[:1])
    ahead.refill(jobs[1:])
    ahead._thread.submit(lambda: None).result(WAIT_S)
    assert [item for item, _ in preparing.seen] == [job.item for job in jobs[:3]]
    ahead.close()


def test_what_has_not_begun_is_prepared_by_who_needs_it(reviewer, preparing):
    ahead, (first, second) = Ahead(preparing, 4), [job_of(reviewer, n) for n in range(2)]
    ahead.begin(first)
    assert preparing.began.wait(WAIT_S)
    ahead.begin(second)
    givers = ahead.take([first, second])
    preparing.go.set()
    assert [row.item for row in rows_of(givers)] == [first.item, second.item]
    where = dict(preparing.seen)
    assert where[first.item].startswith("prepare")
    assert where[second.item] == threading.current_thread().name
    ahead.close()


def test_evidence_that_changed_meanwhile_is_prepared_as_it_is_now(reviewer, preparing):
    ahead, job = Ahead(preparing, 4), job_of(reviewer, 1)
    preparing.go.set()
    ahead.begin(job)
    job.evidence = replace(job.evidence, track=job.evidence.track + 1)
    rows_of(ahead.take([job]))
    assert preparing.seen[-1] == (job.item, threading.current_thread().name)
    ahead.close()


def test_what_was_given_up_leaves_its_room(reviewer, preparing):
    ahead, (first, second) = Ahead(preparing, 1), [job_of(reviewer, n) for n in range(2)]
    preparing.go.set()
    ahead.begin(first)
    ahead.forget(first)
    ahead.begin(second)
    assert ahead._begun.keys() == {second.item}
    ahead.close()


def test_a_row_that_cannot_be_prepared_is_told_like_any_other(reviewer):
    def refuse(evidence):
        raise EvidenceError("its maps are torn")

    ahead = Ahead(BatchReviewer(SimpleNamespace(prepare=refuse, name="strict")).prepare, 1)
    job = job_of(reviewer, 1)
    ahead.begin(job)
    (row,) = rows_of(ahead.take([job]))
    assert isinstance(row, Poisoned)
    assert "torn" in row.reason
    ahead.close()


class Told:
    """The reviewer, remembering in which threads it prepared; what it says of where it computes is given."""

    def __init__(self, reviewer, **says):
        self.reviewer, self.threads = reviewer, set()
        vars(self).update(says)

    def prepare(self, evidence):
        self.threads.add(threading.current_thread().name.split("_")[0])
        return self.reviewer.prepare(evidence)

    def __getattr__(self, name):
        if name == "replicas":
            raise AttributeError(name)
        return getattr(self.reviewer, name)


ONE_REPLICA = {"limits": ScaleLimits(1, 1), "watch": lambda changed: None}


@pytest.mark.parametrize(
    ("says", "where"), [({}, {"score"}), ({"on_gpu": False}, {"score"}), ({"on_gpu": True}, {"prepare"}),
                        ({"elsewhere": True}, {"prepare"}), (ONE_REPLICA | {"preparer": str}, {"prepare"}),
                        (ONE_REPLICA | {"preparer": None}, {"score"})],
)  # fmt: skip
def test_nothing_is_prepared_ahead_on_the_processor_that_scores(reviewer, says, where):
    """Would fail if the two took turns: half as many were reviewed under overload."""
    told, done = Told(reviewer, **says), []
    if "limits" in says:
        told.replicas = lambda: (told,)

    async def go():
        pool = ThreadPoolExecutor(1, thread_name_prefix="score")
        lane = Lane(told, BatchSettings(items=2, max_delay_ms=0), pool, ManualClock(1), Metrics())
        jobs, enough = [job_of(reviewer, seed) for seed in range(6)], asyncio.Event()
        for job in jobs:
            job.tokens = lane.price(job.evidence)
            lane.add(job)
        if where == {"prepare"}:  # all that the lane has room for, before a batch begins
            await asyncio.to_thread(lane._ahead._thread.submit(lambda: None).result, WAIT_S)

        def ended(rows):
            done.extend(job.item for job, _ in rows)
            if len(done) >= len(jobs):
                enough.set()

        running = asyncio.create_task(lane.run(LaneEvents(lambda _: None, ended, lambda *_: None)))
        async with asyncio.timeout(WAIT_S):
            await enough.wait()
        running.cancel()
        pool.shutdown()

    asyncio.run(go())
    assert len(done) == 6
    assert where <= told.threads
    assert where == {"prepare"} or told.threads == where
