"""One bad row harms nobody else, and a broken reviewer harms no row."""

import asyncio

import pytest

from cloud_node.ledger import SqliteLedger
from fusion.errors import EvidenceError, UnavailableError
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemState, Verdict


def ledger_of(tmp_path):
    return SqliteLedger.open_reader(tmp_path / "ledger.db")


class PoisonedReviewer(FixedReviewer):
    """Cannot prepare sequence 3, fails on any batch with sequence 5, and answers nonsense about sequence 7."""

    def prepare(self, evidence):
        if evidence.item.sample.sequence == 3:
            raise EvidenceError(f"{evidence.item}: maps are cut short")
        return super().prepare(evidence)

    def score(self, batch):
        if any(row.item.sample.sequence == 5 for row in batch):
            raise RuntimeError("CUDA error: an illegal memory access")
        answers = super().score(batch)
        for row, answer in zip(batch, answers, strict=True):
            if row.item.sample.sequence == 7:
                answer.pop("object")
        return answers


def test_a_poisoned_row_is_quarantined_and_its_batch_mates_are_answered(
    serving, connect, exchange_all, make_evidence, yard, tmp_path
):
    async def run():
        settings = ("batch.max_delay_ms=200", "batch.items=10", "warm_up=false")
        async with serving(*settings, reviewer=PoisonedReviewer(yard)) as (_, client):
            stream, _ = await connect(client)
            answers = await exchange_all(stream, [make_evidence(n) for n in range(1, 11)])
            again = await exchange_all(stream, [make_evidence(5)])
            stream.cancel()
            return answers | again

    answers = {item.sample.sequence: answer for item, (answer,) in asyncio.run(run()).items()}
    for sequence, answer in answers.items():
        if sequence in {3, 5, 7}:
            assert answer.state is ItemState.QUARANTINED
            assert isinstance(answer.error, EvidenceError)
            assert f"/{sequence}#1" in str(answer.error)
            assert "illegal memory" not in str(answer.error)
        else:
            assert isinstance(answer, Verdict)
    stored = {outcome.item.sample.sequence: outcome for outcome in ledger_of(tmp_path).outcomes()}
    assert stored[1].timings.batch_items == 10
    assert "cut short" in stored[3].reason
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 7, ItemState.QUARANTINED: 3}


class BrokenReviewer(FixedReviewer):
    broken = True

    def score(self, batch):
        if type(self).broken:
            raise RuntimeError("out of memory")
        return super().score(batch)


def test_a_broken_reviewer_quarantines_nothing(serving, connect, exchange_all, make_evidence, yard, tmp_path):
    async def run():
        async with serving("warm_up=false", reviewer=BrokenReviewer(yard)) as (_, client):
            stream, _ = await connect(client)
            BrokenReviewer.broken = False
            await exchange_all(stream, [make_evidence(1)])
            BrokenReviewer.broken = True
            for _ in range(5):
                ((answer,),) = (await exchange_all(stream, [make_evidence(2)])).values()
                assert answer.retriable
                assert isinstance(answer.error, UnavailableError)
            BrokenReviewer.broken = False
            ((answer,),) = (await exchange_all(stream, [make_evidence(2)])).values()
            assert isinstance(answer, Verdict)
            stream.cancel()

    asyncio.run(run())
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 2}


@pytest.mark.parametrize("warm_up", ["true", "false"])
def test_a_reviewer_that_breaks_before_its_first_review_quarantines_nothing(
    serving, connect, exchange_all, make_evidence, yard, tmp_path, warm_up
):
    async def run():
        BrokenReviewer.broken = False
        async with serving(f"warm_up={warm_up}", reviewer=BrokenReviewer(yard)) as (_, client):
            stream, _ = await connect(client)
            BrokenReviewer.broken = True
            for _ in range(4):
                for (answer,) in (await exchange_all(stream, [make_evidence(1), make_evidence(2)])).values():
                    assert answer.retriable
            BrokenReviewer.broken = False
            answers = await exchange_all(stream, [make_evidence(1), make_evidence(2)])
            assert all(isinstance(answer, Verdict) for (answer,) in answers.values())
            stream.cancel()

    asyncio.run(run())
    assert ledger_of(tmp_path).counts() == {ItemState.REVIEWED: 2}


def test_a_row_that_breaks_a_reviewer_that_was_warmed_up_is_quarantined_at_once(
    serving, connect, exchange_all, make_evidence, yard
):
    async def run():
        async with serving("batch.items=2", reviewer=PoisonedReviewer(yard)) as (_, client):
            stream, _ = await connect(client)
            ((answer,),) = (await exchange_all(stream, [make_evidence(5)])).values()
            assert answer.state is ItemState.QUARANTINED
            stream.cancel()

    asyncio.run(run())
