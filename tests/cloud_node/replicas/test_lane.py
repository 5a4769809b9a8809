"""Several batches in flight: who gets them, in which order they begin, and what a lost replica leaves behind."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from cloud_node.config import BatchSettings
from cloud_node.job import Job, Stage
from cloud_node.lanes.crew import KNOWN_BATCHES, Crew
from cloud_node.lanes.explainer import How, Wanted
from cloud_node.lanes.lane import Lane, LaneEvents
from cloud_node.lanes.lost import ALONE_FROM, MAX_KNOWN, MAX_LOSSES, Losses
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Memory, Poisoned, Scored
from cloud_node.metrics import Metrics
from fusion.clock import ManualClock
from fusion.errors import EvidenceError, ModelError
from fusion.review import LostError, RowsError, ScaleLimits
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemId, SampleId
from fusion.wire.messages import Submission


class Replica(FixedReviewer):
    """Waits before each batch until it is told how it ends."""

    def __new__(cls, *_):
        made = super().__new__(cls)
        PARTS[id(made)] = SimpleNamespace(ends=threading.Semaphore(0), lost=False, killers=frozenset(), fleet=None)
        return made

    @property
    def parts(self):
        return PARTS[id(self)]

    def score(self, batch):
        parts = self.parts
        parts.fleet.begun(self, [row.item.sample.sequence for row in batch])
        assert parts.ends.acquire(timeout=60)
        if parts.lost or any(row.item.sample.sequence in parts.killers for row in batch):
            parts.fleet.drop(self)
            raise LostError("its process ended")
        return super().score(batch)


PARTS = {}


class Fleet(FixedReviewer):
    """A reviewer whose replicas the test holds."""

    def __new__(cls, *_):
        made = super().__new__(cls)
        PARTS[id(made)] = SimpleNamespace(up=[], watchers=[], begun=[], news=threading.Semaphore(0), prepares=False)
        return made

    @property
    def limits(self):
        return ScaleLimits(1, 4)

    @property
    def preparer(self):
        return self.prepare if PARTS[id(self)].prepares else None

    def replicas(self):
        return tuple(PARTS[id(self)].up)

    def watch(self, changed):
        PARTS[id(self)].watchers.append(changed)

    def join(self, **parts):
        replica = Replica(self.task)
        vars(replica.parts).update(fleet=self, **parts)
        PARTS[id(self)].up.append(replica)
        self.tell()
        return replica

    def drop(self, replica):
        PARTS[id(self)].up.remove(replica)
        self.tell()

    def tell(self):
        for changed in PARTS[id(self)].watchers:
            changed()

    def begun(self, replica, sequences):
        PARTS[id(self)].begun.append((replica, sequences))
        PARTS[id(self)].news.release()

    async def next_batch(self):
        """The replica and the sequences of a batch that begins, in order."""
        assert await asyncio.to_thread(PARTS[id(self)].news.acquire, timeout=60)
        return PARTS[id(self)].begun.pop(0)


class Bench:
    """A running lane, and what came out of it."""

    def __init__(self, fleet, clock, **settings):
        self.results, self.expired, self.explained, self.news = {}, [], [], asyncio.Event()
        self.pool = ThreadPoolExecutor(8)
        self.metrics = Metrics()
        batch = BatchSettings(**{"items": 2, "max_delay_ms": 0, **settings})
        self.lane = Lane(fleet, batch, self.pool, clock, self.metrics)
        self.clock = clock
        self.task = asyncio.create_task(self.lane.run(LaneEvents(self.expire, self.done, self.explain)))

    def done(self, rows):
        self.results |= {job.item.sample.sequence: result for job, result in rows}
        self.news.set()

    def expire(self, jobs):
        self.expired += [job.item.sample.sequence for job in jobs]
        self.news.set()

    def explain(self, wanted, text, how):
        self.explained.append((wanted.job.item.sample.sequence, text, how))
        self.news.set()

    def add(self, evidence, deadline_ns=None):
        job = Job(Submission.of(evidence), [], self.clock.monotonic_ns(), 0, deadline_ns)
        job.evidence, job.tokens = evidence, self.lane.price(evidence)
        self.lane.add(job)
        return job

    async def wait(self, *sequences):
        async with asyncio.timeout(60):
            while not set(sequences) <= set(self.results) | set(self.expired):
                self.news.clear()
                await self.news.wait()


@pytest.fixture(params=[False, True], ids=["rows made there", "rows made here"])
def run(yard, request):
    """Run a test's coroutine with a fleet and a bench."""

    def start(body, replicas=2, **settings):
        async def go():
            fleet = Fleet(yard)
            PARTS[id(fleet)].prepares = request.param
            for _ in range(replicas):
                fleet.join()
            bench = Bench(fleet, ManualClock(1), **settings)
            try:
                await body(fleet, bench)
                assert (bench.lane._ahead is not None) == request.param
            finally:
                for parts in PARTS.values():
                    if hasattr(parts, "ends"):
                        parts.ends.release(1000)
                bench.task.cancel()
                await asyncio.wait([bench.task])
                bench.pool.shutdown()
                PARTS.clear()

        asyncio.run(go())

    return start


def test_as_many_batches_fly_as_there_are_replicas_and_they_begin_in_order(run, make_evidence):
    async def body(fleet, bench):
        for n in range(1, 8):
            bench.add(make_evidence(n))
        first, second = await fleet.next_batch(), await fleet.next_batch()
        assert {tuple(first[1]), tuple(second[1])} == {(1, 2), (3, 4)}
        assert first[0] is not second[0]
        assert bench.metrics.registry.get_sample_value("fusion_cloud_batches_open", {"reviewer": fleet.name}) == 2
        late = second if second[1] == [3, 4] else first  # the later batch ends first: its items are told first
        late[0].parts.ends.release()
        third = await fleet.next_batch()
        assert third == (late[0], [5, 6])
        assert set(bench.results) == {3, 4}
        (first if late is second else second)[0].parts.ends.release()
        fourth = await fleet.next_batch()
        assert fourth[1] == [7]
        for replica in fleet.replicas():
            replica.parts.ends.release()
        await bench.wait(*range(1, 8))
        assert all(isinstance(result, Scored) for result in bench.results.values())

    run(body)


def test_a_lost_batch_comes_again_on_another_replica(run, make_evidence):
    async def body(fleet, bench):
        bench.add(make_evidence(1))
        victim, _ = await fleet.next_batch()
        victim.parts.lost = True
        victim.parts.ends.release()
        other, again = await fleet.next_batch()
        assert (other is not victim, again) == (True, [1])
        other.parts.ends.release()
        await bench.wait(1)
        assert isinstance(bench.results[1], Scored)
        assert not bench.lane.failing

    run(body)


def test_without_replicas_everything_is_given_back_until_one_comes(run, make_evidence):
    async def body(fleet, bench):
        bench.add(make_evidence(1))
        bench.add(make_evidence(2))
        bench.add(make_evidence(3))
        victim, _ = await fleet.next_batch()
        victim.parts.lost = True
        victim.parts.ends.release()
        await bench.wait(1, 2, 3)
        assert all(isinstance(r, Failed) and r.away for r in bench.results.values())
        assert bench.lane.failing
        assert not getattr(bench.lane._ahead, "_begun", ())  # else there would be less room for ever
        fleet.join()
        bench.results.clear()
        bench.add(make_evidence(1))
        replica, _ = await fleet.next_batch()
        replica.parts.ends.release()
        await bench.wait(1)
        assert isinstance(bench.results[1], Scored)
        assert not bench.lane.failing

    run(body, replicas=1)


def test_without_replicas_verdicts_do_not_wait_for_their_rationale(run, make_evidence):
    async def body(fleet, bench):
        await asyncio.sleep(0)
        job = Job(Submission.of(make_evidence(1)), [], 1, 0, None)
        bench.lane.ask_why(Wanted(job, {}, 1 << 62))
        async with asyncio.timeout(60):
            await bench.news.wait()
        assert bench.explained == [(1, "", How.BUSY)]

    run(body, replicas=0)


def test_an_item_that_ends_replicas_is_found_and_its_mates_are_answered(run, make_evidence):
    async def body(fleet, bench):
        for replica in fleet.replicas():
            replica.parts.killers, _ = frozenset({2}), replica.parts.ends.release(1000)
        for n in range(1, 5):
            bench.add(make_evidence(n))
        joined = 0
        while 2 not in bench.results:
            if len(fleet.replicas()) < 2:
                joined += 1
                fleet.join(killers=frozenset({2})).parts.ends.release(1000)
            await asyncio.sleep(0)
        await bench.wait(1, 2, 3, 4)
        assert joined <= MAX_LOSSES
        assert isinstance(bench.results[2], Poisoned)
        assert all(isinstance(bench.results[n], Scored) for n in (1, 3, 4))

    run(body)


def test_a_deadline_is_judged_by_whoever_is_free(run, make_evidence, yard):
    crew = Crew(FixedReviewer(yard))
    slow = crew.next()
    crew.cost.observe(100, 1_000)
    slow.cost.observe(100, 9_000)
    assert crew.predict_ns(100) == 1_000  # everybody's, while its own are few
    slow.batches = KNOWN_BATCHES
    assert crew.predict_ns(100) == 9_000

    async def body(fleet, bench):
        bench.lane.cost.observe(50, 10_000)
        job = bench.add(make_evidence(1), deadline_ns=5)
        await bench.wait(1)
        assert bench.expired == [1]
        assert job.item not in bench.results

    run(body)


def test_what_waits_takes_replicas_together_less_time(run, make_evidence):
    drains = []

    async def body(fleet, bench):
        bench.lane.cost.observe(30, 1_000_000)
        for n in range(1, 41):
            bench.add(make_evidence(n))
        for _ in fleet.replicas():
            await fleet.next_batch()
        drains.append(bench.lane.drain_ns())

    for replicas in (1, 2, 4):
        run(body, replicas, items=1, tokens=30)
    assert drains[0] > 1.8 * drains[1] > 3.2 * drains[2]


def test_replicas_share_their_witness(yard, make_evidence):
    class Broken(FixedReviewer):
        def score(self, batch):
            raise RuntimeError("CUDA error")

    memory = Memory()
    good, broken = BatchReviewer(FixedReviewer(yard), memory), BatchReviewer(Broken(yard), memory)
    good.review([make_evidence(1)])
    for _ in range(9):
        assert isinstance(broken.review([make_evidence(2)])[0], Failed)


def test_evidence_that_a_replica_could_not_prepare_is_poison_at_once(yard, make_evidence):
    class Far(FixedReviewer):
        def score(self, batch):
            raise RowsError([EvidenceError("cut short"), ModelError("odd")][: len(batch)])

    first, second = BatchReviewer(Far(yard)).review([make_evidence(1), make_evidence(2)])
    assert first == Poisoned(f"{make_evidence(1).item}: cut short", scored=False)
    assert isinstance(second, Failed)


def test_losses_are_bounded():
    losses, items = Losses(), [ItemId(SampleId("cart-1", "0" * 16, n), 1) for n in range(1, MAX_KNOWN + 2)]
    for _ in range(ALONE_FROM):
        losses.add(items[0])
    assert losses.goes_alone(items[0])
    assert not losses.is_poison(items[0])
    for item in items[1:]:
        losses.add(item)
    assert not losses.goes_alone(items[0])


def test_what_commits_take_is_kept_of_deadlines(run, make_evidence):
    async def body(fleet, bench):
        bench.lane.cost.observe(10, 100_000_000)  # a batch takes 0.1 s
        first = bench.add(make_evidence(1), deadline_ns=bench.clock.monotonic_ns() + 1_000_000_000)
        (replica, _) = await fleet.next_batch()
        bench.clock.advance(100_000_000)
        replica.parts.ends.release()
        await bench.wait(1)
        first.enter(Stage.STORING, bench.clock.monotonic_ns())
        bench.clock.advance(400_000_000)
        bench.lane.stored(first, bench.clock.monotonic_ns())  # the ledger took 0.4 s
        now_ns = bench.clock.monotonic_ns()
        bench.add(make_evidence(2), deadline_ns=now_ns + 120_000_000)  # enough for a review, not for a commit
        await bench.wait(2)
        assert (bench.expired, set(bench.results)) == ([2], {1})
        bench.add(make_evidence(3), deadline_ns=now_ns + 1_000_000_000)
        assert (await fleet.next_batch())[1] == [3]

    run(body, replicas=1)
