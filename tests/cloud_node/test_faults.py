"""A ledger that fails, a defect inside, devices that vanish."""

import asyncio
import logging

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloud_node.ledger import SqliteLedger
from fusion.errors import ProtocolError, SpoolError, UnavailableError
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemState, Verdict
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import ClockPing, Goodbye, Submission, Welcome
from fusion.wire.service import Peer


class FailingLedger(SqliteLedger):
    """A full disk, while `full`."""

    full = False

    def store(self, outcomes):
        if type(self).full:
            raise SpoolError("ledger l.db: cannot be written (database or disk is full)")
        return super().store(outcomes)

    def probe(self):
        self.store([])
        super().probe()


async def is_serving(channel):
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_full_disk_refuses_for_now_and_acknowledges_nothing(serving, connect, exchange_all, make_evidence, tmp_path):
    ledger = FailingLedger.open(tmp_path / "l.db")

    async def run():
        async with (
            serving(ledger=ledger) as (service, client),
            grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,
        ):
            stream, _ = await connect(client)
            FailingLedger.full = True
            answers = await exchange_all(stream, [make_evidence(n) for n in range(1, 6)])
            for (refusal,) in answers.values():
                assert refusal.retriable
                assert refusal.retry_after_s > 0
                assert type(refusal.error) is UnavailableError
            while await is_serving(channel):
                await asyncio.sleep(0.05)
            FailingLedger.full = False
            while not await is_serving(channel):  # though no device sends anything, for none is sent here
                await asyncio.sleep(0.05)
            answers = await exchange_all(stream, [make_evidence(n) for n in range(1, 6)])
            assert all(isinstance(answer, Verdict) for (answer,) in answers.values())
            stream.cancel()

    asyncio.run(run())
    reader = SqliteLedger.open_reader(tmp_path / "l.db")
    assert reader.counts() == {ItemState.REVIEWED: 5}


class BrokenLedger(SqliteLedger):
    def find(self, items):
        raise RuntimeError("a defect")


class LyingLedger(SqliteLedger):
    def find(self, items):
        return ["no outcome"] * len(items)


class OddAnswers(dict):
    def values(self):
        raise RuntimeError("a defect")


class OddReviewer(FixedReviewer):
    """Its answers pass the checks and break what comes after them."""

    def score(self, batch):
        return [OddAnswers(answers) for answers in super().score(batch)]


@pytest.mark.parametrize("where", ["thread", "callback", "lane"])
def test_a_defect_ends_the_service_instead_of_hanging_it(serving, connect, make_evidence, tmp_path, yard, where):
    parts = {
        "thread": lambda: {"ledger": BrokenLedger.open(tmp_path / "l.db")},
        "callback": lambda: {"ledger": LyingLedger.open(tmp_path / "l.db")},
        "lane": lambda: {"reviewer": OddReviewer(yard)},
    }[where]()

    async def run():
        async with serving(**parts) as (service, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1)))
            async with asyncio.timeout(60):
                await service.failure()

    with pytest.raises((RuntimeError, AttributeError), match=r"a defect|evidence_sha256"):
        asyncio.run(run())


def test_devices_that_vanish_in_full_flow_leave_no_trace_but_a_count(serving, connect, make_evidence, tmp_path, caplog):
    caplog.set_level(logging.WARNING)

    async def run():
        async with serving("queue.window=500") as (service, _):
            for life in range(5):
                async with open_channel(f"127.0.0.1:{service.port}") as channel:
                    stream, _ = await connect(ReviewClient(channel))
                    for n in range(100):
                        await stream.send(Submission.of(make_evidence(1 + 100 * life + n)))
                    await stream.receive()
                    stream.cancel()
            value = service.metrics.registry.get_sample_value
            async with open_channel(f"127.0.0.1:{service.port}") as channel:
                stream, _ = await connect(ReviewClient(channel))
                await stream.send(Goodbye())
                assert await stream.receive() is None
            while value("fusion_cloud_streams") > 0:
                await asyncio.sleep(0.01)
            assert value("fusion_cloud_stream_ends_total", {"how": "goodbye"}) == 1
            await service.drain()

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    stored = SqliteLedger.open_reader(tmp_path / "ledger.db").counts()
    assert set(stored) == {ItemState.REVIEWED}


async def _greeting(hello, *more):
    for message in (hello, *more):
        yield message
    await asyncio.Event().wait()


def test_a_stream_whose_device_reads_nothing_can_still_be_ended(serving, hello, make_evidence):
    """The transport is a fake here: one that takes the Welcome and then blocks for ever."""
    peer = Peer("test", None, None)

    async def run():
        async with serving() as (service, _):
            stuck = asyncio.Event()

            async def send(message):
                if not isinstance(message, Welcome):
                    stuck.set()
                    await asyncio.Event().wait()

            submissions = [Submission.of(make_evidence(n)) for n in range(1, 4)]
            older = asyncio.create_task(service.exchange(_greeting(hello(), *submissions), send, peer))
            await stuck.wait()
            newer = asyncio.create_task(service.exchange(_greeting(hello()), send, peer))
            with pytest.raises(ProtocolError, match="newer stream"):
                await asyncio.wait_for(older, 60)
            newer.cancel()

    asyncio.run(run())


def test_a_device_that_never_reads_does_not_fill_the_memory(serving, hello, make_evidence):
    peer = Peer("test", None, None)
    taken = 0

    async def flood():
        nonlocal taken
        yield hello()
        while True:
            taken += 1
            yield ClockPing(1)
            await asyncio.sleep(0)

    async def run():
        async with serving("queue.window=8") as (service, _):

            async def send(message):
                if not isinstance(message, Welcome):
                    await asyncio.Event().wait()

            stream = asyncio.create_task(service.exchange(flood(), send, peer))
            while taken < 4 * 8:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            stream.cancel()

    asyncio.run(run())
    assert taken <= 4 * 8 + 2
