"""Replicas as real processes, of this machine or of Ray, and a real service: equal verdicts, killed and back again."""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace

import pytest

from cloud_node.config import CloudSettings
from cloud_node.lanes.reviewer import BatchReviewer, Poisoned, Scored
from cloud_node.ledger import SqliteLedger
from cloud_node.server import CloudService
from fusion.config import from_overrides
from fusion.errors import ConfigError, ModelError, UnavailableError
from fusion.review import LostError
from fusion.review.fixed import FixedReviewer
from fusion.review.mini import MiniReviewer
from fusion.review.replicas.reviewer import RayReviewer
from fusion.types import ItemState
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Submission


@pytest.fixture(scope="module")
def fleet(replicas):
    reviewer = replicas.load("[fixed:yard]?replicas=2&gpus=0")
    yield reviewer
    reviewer.close()


def settings(tmp_path, *more):
    first = ["listen=127.0.0.1:0", f"ledger={tmp_path / 'ledger.db'}", "review.pixel_timeout_ms=0", "batch.items=4"]
    return from_overrides(CloudSettings, [*first, "queue.window=200", *more])


@contextlib.asynccontextmanager
async def serving(tmp_path, reviewer):
    async with (
        CloudService(settings(tmp_path), reviewers=[reviewer]).running() as service,
        open_channel(f"127.0.0.1:{service.port}") as channel,
    ):
        yield service, ReviewClient(channel)


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_bundled_reviewer_says_the_same_in_a_replica(replicas):
    plain, reviewer = MiniReviewer.load("yard"), replicas.load("[mini:yard]?gpus=0")
    try:
        rows = [plain.example(seed) for seed in range(8)]
        assert (reviewer.name, reviewer.task, reviewer.profiles) == (plain.name, plain.task, plain.profiles)
        assert [reviewer.cost(row) for row in rows] == [plain.cost(row) for row in rows]
        assert reviewer.example(3).item == plain.example(3).item
        expected = plain.score([plain.prepare(row) for row in rows])
        got = reviewer.score([reviewer.prepare(row) for row in rows])
        for one, other in zip(got, expected, strict=True):
            for slot, answer in one.items():
                assert answer.probabilities == pytest.approx(other[slot].probabilities, abs=1e-5)
        bad = replace(rows[1], maps=replace(rows[1].maps, gate=b""))
        results = BatchReviewer(reviewer).review([rows[0], bad, rows[2]])
        assert [type(result) for result in results] == [Scored, Poisoned, Scored]
        assert str(bad.item) in results[1].reason
    finally:
        reviewer.close()


def test_a_replica_killed_in_the_middle_of_a_batch_loses_nothing_and_comes_back(fleet, yard, make_evidence, tmp_path):
    evidence = [make_evidence(n) for n in range(1, 97)]
    victim, other = fleet.replicas()
    done = victim.batches, other.batches

    async def run():
        async with serving(tmp_path, fleet) as (service, client):
            os.kill(victim.told.process, signal.SIGSTOP)
            work = asyncio.gather(*(client.review(Submission.of(row)) for row in evidence))
            await until(lambda: victim.busy and other.batches > done[1] + 3)
            assert service.metrics.registry.get_sample_value("fusion_cloud_replicas", {"reviewer": fleet.name}) == 2
            os.kill(victim.told.process, signal.SIGKILL)
            verdicts = await work
            await until(lambda: len(fleet.replicas()) == 2)
            assert victim not in fleet.replicas()
            assert service.why_not_ready() == ""
            return verdicts

    verdicts = asyncio.run(run())
    plain = FixedReviewer(yard)
    expected = plain.score([plain.prepare(row) for row in evidence])
    assert [verdict.item for verdict in verdicts] == [row.item for row in evidence]
    for verdict, answers in zip(verdicts, expected, strict=True):
        assert {slot: answer.option for slot, answer in verdict.slots.items()} == {
            slot: answer.option for slot, answer in answers.items()
        }
    stored = list(SqliteLedger.open_reader(tmp_path / "ledger.db").outcomes())
    assert sorted(outcome.item for outcome in stored) == sorted(row.item for row in evidence)
    assert {outcome.state for outcome in stored} == {ItemState.REVIEWED}


def test_both_replicas_work(fleet, make_evidence, tmp_path):
    before = {id(replica): replica.batches for replica in fleet.replicas()}

    async def run():
        async with serving(tmp_path, fleet) as (_, client):
            await asyncio.gather(*(client.review(Submission.of(make_evidence(n))) for n in range(1, 65)))

    asyncio.run(run())
    assert all(replica.batches > before[id(replica)] for replica in fleet.replicas())


def test_without_replicas_items_may_come_again_and_the_service_recovers(fleet, make_evidence, tmp_path):
    async def run():
        async with serving(tmp_path, fleet) as (service, client):
            for replica in fleet.replicas():
                os.kill(replica.told.process, signal.SIGKILL)
            await until(lambda: not fleet.replicas())
            with pytest.raises(UnavailableError, match="no replica"):
                await client.review(Submission.of(make_evidence(1)))
            assert "unhealthy" in service.why_not_ready()
            await until(fleet.replicas)
            verdict = await client.review(Submission.of(make_evidence(1)))
            assert service.why_not_ready() == ""
            return verdict

    assert asyncio.run(run()).reviewer == fleet.name


def test_a_replica_that_hangs_is_taken_for_dead(replicas, make_evidence):
    reviewer = replicas.load("[fixed:yard]?gpus=0&timeout_s=1")
    try:
        (replica,) = reviewer.replicas()
        rows = [replica.prepare(make_evidence(1))]
        os.kill(replica.told.process, signal.SIGSTOP)
        with pytest.raises(LostError, match="no answer within 1 s"):
            replica.score(rows)
        assert replica not in reviewer.replicas()
    finally:
        reviewer.close()


def test_the_number_of_replicas_changes_within_its_limits(replicas):
    reviewer = replicas.load("[fixed:yard]?replicas=auto:1-2&gpus=0")
    try:
        (first,) = reviewer.replicas()
        reviewer.resize(9)
        asyncio.run(until(lambda: len(reviewer.replicas()) == 2))
        reviewer.resize(0)
        asyncio.run(until(lambda: reviewer.replicas() == (first,)))
    finally:
        reviewer.close()


@pytest.mark.parametrize(
    ("argument", "error", "words"),
    [("[fixed:mars]?gpus=0", ModelError, "mars"), ("[fixed:yard]?gpus=64", ModelError, "gpus=0")],
)
def test_what_cannot_be_is_one_line(replicas, argument, error, words):
    with pytest.raises(error, match=words) as told:
        replicas.load(argument)
    assert str(told.value).startswith(f"reviewer {'ray' if replicas is RayReviewer else 'process'}:{argument}: ")
    assert "\n" not in str(told.value)


def test_there_is_one_ray_cluster(instance):
    with pytest.raises(ConfigError, match="same address"):
        RayReviewer.load("[fixed:yard]?address=127.0.0.1:1")
