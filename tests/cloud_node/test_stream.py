"""The stream against a real server: verdicts, repeats, refusals, hand-over, pixels."""

import asyncio
import threading
from dataclasses import replace

import pytest

from cloud_node.ledger import SqliteLedger
from fusion.errors import (
    OverloadedError,
    ProtocolError,
    UnavailableError,
    UnknownProfileError,
)
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemState, LedgerCounts, Verdict
from fusion.wire.messages import (
    ClockPing,
    ClockPong,
    Draining,
    Goodbye,
    LedgerReport,
    Refusal,
    Submission,
    Welcome,
)


def ledger_of(tmp_path):
    return SqliteLedger.open_reader(tmp_path / "ledger.db")


def test_verdicts_come_back_stored_and_as_the_reviewer_gave_them(
    serving, connect, exchange_all, make_evidence, tmp_path, yard
):
    evidence = [make_evidence(n) for n in range(1, 41)]

    async def run():
        async with serving() as (_, client):
            stream, welcome = await connect(client)
            assert welcome.last_acknowledged is None
            answers = await exchange_all(stream, evidence)
            await stream.send(Goodbye())
            assert await stream.receive() is None
            again, welcome = await connect(client)
            assert welcome.last_acknowledged == evidence[-1].item
            again.cancel()
            return answers

    answers = asyncio.run(run())
    reviewer = FixedReviewer(yard)
    for one in evidence:
        (verdict,) = answers[one.item]
        assert isinstance(verdict, Verdict)
        assert verdict.lanes == ("maps", "tokens")
        assert verdict.reviewer == "fixed:yard"
        assert verdict.prompt_sha256 == yard.prompt_sha256
        expected = reviewer.score([reviewer.prepare(one)])[0]
        assert {name: a.option for name, a in verdict.slots.items()} == {n: a.option for n, a in expected.items()}
    stored = {outcome.item: outcome for outcome in ledger_of(tmp_path).outcomes(with_evidence=True)}
    assert set(stored) == {one.item for one in evidence}
    first = stored[evidence[0].item]
    assert first.state is ItemState.REVIEWED
    assert first.header["class_scores"] == {"drum": 0.5, "cone": 0.25}
    assert first.header["opinion"]["asked_score"] == 0.25
    assert first.timings.batch_items >= 1
    assert first.timings.answered_ns >= first.timings.received_ns
    assert first.evidence == Submission.of(evidence[0]).blob


class CountingReviewer(FixedReviewer):
    scored = 0

    def score(self, batch):
        type(self).scored += len(batch)
        return super().score(batch)


def test_what_was_answered_is_answered_again_but_never_reviewed_again(
    serving, connect, exchange_all, make_evidence, tmp_path, yard
):
    evidence = [make_evidence(n) for n in range(1, 11)]

    async def run():
        async with serving("warm_up=false", reviewer=CountingReviewer(yard)) as (service, client):
            stream, _ = await connect(client)
            first = await exchange_all(stream, evidence)
            second = await exchange_all(stream, evidence)
            stream.cancel()
            other, _ = await connect(client)
            third = await exchange_all(other, [replace(one, value=9.0) for one in evidence])
            other.cancel()
            return first, second, third, service.metrics.registry

    CountingReviewer.scored = 0
    first, second, third, registry = asyncio.run(run())
    assert first == second == third
    assert CountingReviewer.scored == 10
    assert registry.get_sample_value("fusion_cloud_repeats_total") == 20
    assert registry.get_sample_value("fusion_cloud_conflicts_total") == 10
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 10}


def test_an_item_sent_twice_while_in_flight_is_reviewed_once(serving, connect, make_evidence, held):
    async def run():
        async with serving(reviewer=held) as (service, client):
            stream, _ = await connect(client)
            for _ in range(3):
                await stream.send(Submission.of(make_evidence(1)))
            await stream.send(ClockPing(1))
            assert isinstance(await stream.receive(), ClockPong)
            held.gate.set()
            assert isinstance(await stream.receive(), Verdict)
            await stream.send(ClockPing(1))
            assert isinstance(await stream.receive(), ClockPong)
            stream.cancel()
            assert service.metrics.registry.get_sample_value("fusion_cloud_batch_items_sum") == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"protocol_version": 2}, ProtocolError, "protocol version 2"),
        ({"task": "driving"}, ProtocolError, "served: yard"),
        ({"profiles": ("cd" * 32,)}, UnknownProfileError, "ab" * 32),
        ({"device": "No Device"}, ProtocolError, "device name"),
        ({"epoch": "1"}, ProtocolError, "epoch"),
    ],
)
def test_a_handshake_that_cannot_work_is_refused_by_name(serving, hello, changes, kind, words):
    async def run():
        async with serving() as (_, client):
            stream = client.exchange()
            await stream.send(hello(**changes))
            with pytest.raises(kind, match=words):
                await stream.receive()

    asyncio.run(run())


def test_a_spool_with_one_served_trunk_is_welcome(serving, hello):
    async def run():
        async with serving() as (_, client):
            stream = client.exchange()
            await stream.send(hello(profiles=("cd" * 32, "ab" * 32)))
            welcome = await stream.receive()
            assert isinstance(welcome, Welcome)
            assert welcome.serves("ab" * 32)
            assert not welcome.serves("cd" * 32)
            stream.cancel()

    asyncio.run(run())


def test_evidence_of_an_unserved_trunk_may_come_again_after_a_rollout(serving, connect, make_evidence, tmp_path):
    async def run():
        async with serving() as (_, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1, profile="cd" * 32)))
            refusal = await stream.receive()
            assert isinstance(refusal, Refusal)
            assert refusal.retriable
            assert refusal.retry_after_s >= 60
            assert isinstance(refusal.error, UnknownProfileError)
            assert "ab" * 32 in str(refusal.error)
            stream.cancel()

    asyncio.run(run())
    assert ledger_of(tmp_path).counts() == {}


def test_what_breaks_the_order_of_the_stream_ends_it(serving, connect, hello, make_evidence):
    async def run():
        async with serving() as (_, client):
            early = client.exchange()
            await early.send(Submission.of(make_evidence(1)))
            with pytest.raises(ProtocolError, match="begin with Hello"):
                await early.receive()
            twice, _ = await connect(client)
            await twice.send(hello())
            with pytest.raises(ProtocolError, match="second Hello"):
                await twice.receive()
            foreign, _ = await connect(client)
            await foreign.send(Submission.of(make_evidence(1, device="cart-2")))
            with pytest.raises(ProtocolError, match="cart-2"):
                await foreign.receive()

    asyncio.run(run())


def test_a_newer_stream_of_a_device_ends_the_older_and_gets_its_answers(serving, connect, make_evidence, held):
    async def run():
        async with serving(reviewer=held) as (_, client):
            older, _ = await connect(client)
            await older.send(Submission.of(make_evidence(1)))
            await held.begins()
            newer, _ = await connect(client)
            with pytest.raises(ProtocolError, match="newer stream"):
                await older.receive()
            await newer.send(Submission.of(make_evidence(1)))
            held.gate.set()
            assert isinstance(await newer.receive(), Verdict)
            newer.cancel()

    asyncio.run(run())


def test_pongs_and_reports(serving, connect, tmp_path):
    counts = LedgerCounts(9, 1, {ItemState.PASSED: 7, ItemState.PENDING: 1})

    async def run():
        async with serving() as (_, client):
            stream, _ = await connect(client)
            await stream.send(ClockPing(77))
            pong = await stream.receive()
            assert pong.ping_sent_ns == 77
            assert 0 < pong.received_ns <= pong.sent_ns
            await stream.send(LedgerReport(LedgerCounts(1, 0, {})))
            await stream.send(LedgerReport(counts))
            await stream.send(Goodbye())
            assert await stream.receive() is None

    asyncio.run(run())
    (report,) = ledger_of(tmp_path).reports()
    assert (report.device, report.counts) == ("cart-1", counts)


class SlowLedger(SqliteLedger):
    """Says what is acknowledged to cart-2 only once `may_answer` is set."""

    def last_acknowledged(self, device, epoch):
        if device == "cart-2":
            self.asked.set()
            assert self.may_answer.wait(60)
        return super().last_acknowledged(device, epoch)


@pytest.mark.parametrize("in_time", [True, False])
def test_a_device_that_waits_for_its_welcome_is_told_of_the_drain_after_it(
    serving, connect, hello, make_evidence, held, tmp_path, in_time
):
    ledger = SlowLedger.open(tmp_path / "slow.db")
    ledger.asked, ledger.may_answer = threading.Event(), threading.Event()

    async def run():
        overrides = ("warm_up=false", f"drain_seconds={60 if in_time else 0.1}")
        async with serving(*overrides, reviewer=held, ledger=ledger) as (service, client):
            first, _ = await connect(client)
            await first.send(Submission.of(make_evidence(1)))
            await held.begins()
            second = client.exchange()
            await second.send(hello("cart-2"))
            assert await asyncio.to_thread(ledger.asked.wait, 60)
            drain = asyncio.create_task(service.drain())
            assert await first.receive() == Draining()
            if in_time:
                ledger.may_answer.set()
                assert isinstance(await second.receive(), Welcome)
                assert await second.receive() == Draining()
                held.gate.set()
                await drain
            else:
                await drain
                ledger.may_answer.set()
                with pytest.raises(UnavailableError, match="draining"):
                    await second.receive()
            held.gate.set()

    asyncio.run(run())


def test_a_full_queue_says_when_to_come_again_and_everything_gets_through(
    serving, connect, make_evidence, held, tmp_path
):
    evidence = {one.item: one for one in (make_evidence(n) for n in range(1, 31))}

    async def run():
        async with serving("queue.items=4", "batch.items=2", reviewer=held) as (_, client):
            stream, _ = await connect(client)
            for one in evidence.values():
                await stream.send(Submission.of(one))
            refusals = [await stream.receive() for _ in range(26)]
            for refusal in refusals:
                assert isinstance(refusal, Refusal)
                assert isinstance(refusal.error, OverloadedError)
                assert 0 < refusal.retry_after_s <= 30
                assert refusal.retriable
            held.gate.set()
            waiting = set(evidence)
            for refusal in refusals:
                await stream.send(Submission.of(evidence[refusal.item]))
            while waiting:
                answer = await stream.receive()
                if isinstance(answer, Verdict):
                    waiting.remove(answer.item)
                else:
                    await asyncio.sleep(answer.retry_after_s)
                    await stream.send(Submission.of(evidence[answer.item]))
            stream.cancel()

    asyncio.run(run())
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 30}


def test_a_device_that_ignores_its_window_is_slowed_and_others_are_served(serving, connect, make_evidence, held):
    async def run():
        async with serving("queue.window=3", "batch.items=1", reviewer=held) as (_, client):
            rude, welcome = await connect(client)
            assert welcome.window == 3
            for n in range(1, 9):
                await rude.send(Submission.of(make_evidence(n)))
            refusals = [await rude.receive() for _ in range(5)]
            assert all("window" in str(refusal.error) for refusal in refusals)
            polite, _ = await connect(client, "cart-2")
            await polite.send(Submission.of(make_evidence(1, device="cart-2")))
            held.gate.set()
            assert isinstance(await polite.receive(), Verdict)
            assert all([isinstance(await rude.receive(), Verdict) for _ in range(3)])
            rude.cancel()
            polite.cancel()

    asyncio.run(run())


def test_a_deadline_that_cannot_be_made_is_told_and_stored(serving, connect, make_evidence, held, tmp_path):
    async def run():
        async with serving("batch.items=1", reviewer=held) as (_, client):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1)))
            await held.begins()
            await stream.send(Submission.of(make_evidence(2), deadline_ms=1))
            await stream.send(Submission.of(make_evidence(3), deadline_ms=600_000))
            await stream.send(ClockPing(1))
            assert isinstance(await stream.receive(), ClockPong)
            await asyncio.sleep(0.01)
            held.gate.set()
            answers = {answer.item.sample.sequence: answer for answer in [await stream.receive() for _ in range(3)]}
            stream.cancel()
            return answers

    answers = asyncio.run(run())
    assert isinstance(answers[1], Verdict)
    assert isinstance(answers[3], Verdict)
    assert answers[2].state is ItemState.EXPIRED
    assert not answers[2].retriable
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 2, ItemState.EXPIRED: 1}
