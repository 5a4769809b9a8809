"""Two cloud nodes, as processes, on one PostgreSQL ledger: whichever a device asks, an item has one outcome."""

import asyncio
import contextlib
from contextlib import closing

from cloud_node.ledger import open_reader
from fusion.errors import UnavailableError
from fusion.types import ItemState, Verdict
from fusion.wire.messages import Submission

from ..node_process import node

SMALL = "batch.items=2", "queue.window=500"
SURE, UNSURE = (*SMALL, "review.confidence_floor=0"), (*SMALL, "review.confidence_floor=1")
"""What the nodes are told apart by: the same answers are certain to one and uncertain to the other."""


async def converse(stream, evidence, heard, *, after=None, then=lambda: None):
    """Send all and hear answers until every one came or the node is gone; `then` is called after so many."""
    with contextlib.suppress(UnavailableError):
        for row in evidence:
            await stream.send(Submission.of(row))
        while len(heard) < len(evidence):
            answer = await stream.receive()
            if answer is None:
                return
            assert isinstance(answer, Verdict)
            assert heard.setdefault(answer.item, answer) == answer
            if len(heard) == after:
                then()


def test_one_outcome_an_item_whichever_nodes_were_asked_and_one_killed(postgres_name, make_evidence, connect):
    both = [make_evidence(n) for n in range(1, 121)]
    moved = [make_evidence(n) for n in range(121, 241)]

    async def run():
        async with (
            node(postgres_name, *SURE) as (first, client_a),
            node(postgres_name, *UNSURE) as (_, client_b),
        ):
            (a, _), (b, _) = await connect(client_a), await connect(client_b)
            said_a, said_b = {}, {}
            await asyncio.gather(converse(a, both, said_a), converse(b, both[::-1], said_b))
            flying = {}
            await converse(a, moved, flying, after=5, then=first.kill)
            assert 5 <= len(flying) < len(moved), "it was to be killed in the middle"
            await converse(b, moved, (rest := {}))
            b.cancel()
            return said_a, said_b, flying, rest

    said_a, said_b, flying, rest = asyncio.run(run())
    assert said_a == said_b
    assert {verdict.uncertain for verdict in said_a.values()} == {True, False}, "both nodes were to review some"
    assert set(said_a) == {row.item for row in both}
    assert set(rest) == {row.item for row in moved}
    assert all(rest[item] == verdict for item, verdict in flying.items())
    with closing(open_reader(postgres_name)) as reader:
        stored = {outcome.item: outcome.verdict for outcome in reader.outcomes()}
        assert reader.counts() == {ItemState.REVIEWED: len(both) + len(moved)}
    assert {i: v.uncertain for i, v in stored.items()} == {i: v.uncertain for i, v in (said_a | rest).items()}
