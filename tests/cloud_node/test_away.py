"""A reviewer that knows which rows it could not answer: nobody is asked twice, nobody is blamed for its server."""

import asyncio
import threading
from typing import ClassVar

import pytest

from cloud_node.direct import DirectService
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Poisoned, Scored
from cloud_node.ledger import SqliteLedger
from cloud_node.server import CloudService
from fusion.clock import ManualClock
from fusion.errors import ModelError, UnavailableError
from fusion.review import RowsError
from fusion.review.fixed import FixedReviewer
from fusion.types import Box2D, ItemState, KeptLanes, PixelCrop, Verdict
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import PixelAnswer, PixelRequest, Refusal, Submission

CROP = PixelCrop(b"a picture", "png", Box2D(0, 0, 9, 9))


class Remote(FixedReviewer):
    """`errors` by sequence; without pixels it is never sure; `blind` fails rows with pixels as a server that left."""

    errors: ClassVar = {}
    blind = False
    rows = 0

    def prepare(self, evidence):
        row = super().prepare(evidence)
        if type(self).blind and evidence.pixels is not None:
            type(self).errors[evidence.item.sample.sequence] = UnavailableError("the server left")
        return row

    def score(self, batch):
        type(self).rows += len(batch)
        answers = super().score(batch)
        errors = type(self).errors
        rows = [errors.get(row.item.sample.sequence, answer) for row, answer in zip(batch, answers, strict=True)]
        if any(isinstance(row, Exception) for row in rows):
            raise RowsError(rows)
        return answers


@pytest.fixture
def remote(yard):
    Remote.errors, Remote.blind, Remote.rows = {}, False, 0
    return Remote(yard)


def test_each_row_is_asked_once_and_has_its_own_result(remote, make_evidence):
    Remote.errors = {2: UnavailableError("busy"), 5: ModelError("too small")}
    results = BatchReviewer(remote).review([make_evidence(n) for n in range(1, 7)])
    assert [type(result) for result in results] == [Scored, Failed, Scored, Scored, Poisoned, Scored]
    assert results[1].away
    assert "busy" in results[1].reason
    assert Remote.rows == 6


def test_a_row_whose_server_is_away_never_becomes_poison(remote, make_evidence):
    batches = BatchReviewer(remote)
    Remote.errors = {1: UnavailableError("gone")}
    for _ in range(5):
        assert batches.review([make_evidence(1)]) == [Failed(f"{make_evidence(1).item}: gone", away=True)]
    assert isinstance(batches.review([make_evidence(2)])[0], Scored)
    assert isinstance(batches.review([make_evidence(1)])[0], Failed)
    assert Remote.rows == 7  # the witness is not asked what nobody is blamed for


def test_an_item_whose_picture_could_not_be_sent_on_comes_again(remote, serving, connect, make_evidence):
    Remote.blind = True
    overrides = ("review.confidence_floor=1.0", "review.pixel_timeout_ms=60000")

    async def run():
        async with serving(*overrides, reviewer=remote) as (_, client):
            stream, _ = await connect(client)
            got = []
            for _ in range(2):
                await stream.send(Submission.of(make_evidence(1)))
                while True:
                    answer = await stream.receive()
                    if not isinstance(answer, PixelRequest):
                        break
                    await stream.send(PixelAnswer(answer.item, CROP))
                got.append(answer)
                Remote.blind, Remote.errors = False, {}
            stream.cancel()
            return got

    refusal, verdict = asyncio.run(run())
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.error, UnavailableError)
    assert "the server left" in str(refusal.error)
    assert refusal.retry_after_s is not None
    assert isinstance(verdict, Verdict)
    assert "pixels" in verdict.lanes


def test_a_reviewer_that_waits_does_not_hold_up_one_that_computes(make_settings, make_evidence, yard):
    class Waiting(FixedReviewer):
        name, elsewhere = "fixed:waiting", True
        may_end = threading.Event()

        def score(self, batch):
            assert self.may_end.wait(30)
            return super().score(batch)

    here, there = FixedReviewer(yard, frozenset({"ab" * 32})), Waiting(yard, frozenset({"cd" * 32}))

    async def run():
        async with (
            CloudService(make_settings(), reviewers=[here, there]).running() as service,
            open_channel(f"127.0.0.1:{service.port}") as channel,
        ):
            client = ReviewClient(channel)
            slow = asyncio.create_task(client.review(Submission.of(make_evidence(1, profile="cd" * 32))))
            await asyncio.sleep(0.1)
            quick = await client.review(Submission.of(make_evidence(2, profile="ab" * 32)), timeout_s=10)
            assert not slow.done()
            Waiting.may_end.set()
            return quick.reviewer, (await slow).reviewer

    assert asyncio.run(run()) == (here.name, "fixed:waiting")


def test_the_direct_service_stores_nothing_while_the_server_is_away(remote, make_settings, make_evidence, tmp_path):
    Remote.blind = True
    ledger = SqliteLedger.open(tmp_path / "direct.db")
    settings = make_settings("review.confidence_floor=1.0", "review.pixel_timeout_ms=3000")
    service = DirectService([remote], ledger, settings, ManualClock(5))
    with pytest.raises(ModelError, match="the server left"):
        service.review([Submission.of(make_evidence(1))], lambda _: KeptLanes(CROP))
    assert ledger.reader().counts() == {}
    Remote.blind, Remote.errors = False, {}
    service.review([Submission.of(make_evidence(1))], lambda _: KeptLanes(CROP))
    assert ledger.reader().counts() == {ItemState.REVIEWED: 1}
