"""The whole service on PostgreSQL: a server that dies under it, and a second service beside it."""

import asyncio

from cloud_node.cli import main
from cloud_node.ledger import open_reader
from fusion.types import ItemState, Verdict
from fusion.wire.messages import Submission


def test_a_server_that_dies_is_a_refusal_for_now_and_no_row_is_lost(
    postgres_server, postgres_name, serving, connect, exchange_all, make_evidence
):
    async def run():
        async with serving(f"ledger={postgres_name}") as (_, client):
            stream, _ = await connect(client)
            first = await exchange_all(stream, [make_evidence(n) for n in range(1, 9)])
            assert all(isinstance(answer, Verdict) for (answer,) in first.values())
            await asyncio.to_thread(postgres_server.kill)
            refused = await exchange_all(stream, [make_evidence(n) for n in range(5, 13)])
            assert all(refusal.retriable for (refusal,) in refused.values())
            await asyncio.to_thread(postgres_server.start)
            again = await exchange_all(stream, [make_evidence(n) for n in range(1, 13)])
            assert all(isinstance(answer, Verdict) for (answer,) in again.values())
            assert again | first == again
            stream.cancel()

    asyncio.run(run())
    reader = open_reader(postgres_name)
    assert reader.counts() == {ItemState.REVIEWED: 12}
    assert len({outcome.item for outcome in reader.outcomes()}) == 12
    reader.close()


def test_two_services_on_one_database_give_one_answer(postgres_name, serving, make_evidence, connect, held):
    """Both have the item in review before either stores it."""

    async def run():
        async with (
            serving(f"ledger={postgres_name}", reviewer=held) as (_, one),
            serving(f"ledger={postgres_name}") as (_, other),
        ):
            streams = [(await connect(client))[0] for client in (one, other)]
            await streams[0].send(Submission.of(make_evidence(1)))
            await held.begins()
            await streams[1].send(Submission.of(make_evidence(1)))
            theirs = await streams[1].receive()
            held.gate.set()
            assert await streams[0].receive() == theirs
            for stream in streams:
                stream.cancel()

    asyncio.run(run())
    reader = open_reader(postgres_name)
    assert reader.counts() == {ItemState.REVIEWED: 1}
    reader.close()


def test_check_tells_the_ledger_without_its_password(capsys):
    assert main(["check", "--set", 'reviewers=["fixed:yard"]', "--set", "ledger=postgresql://fusion:s3cr@db/x"]) == 0
    told = capsys.readouterr().out
    assert "ledger: postgresql://fusion@db/x" in told
    assert "s3cr" not in told
