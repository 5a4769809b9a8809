"""Two cloud nodes, as processes, on one PostgreSQL ledger: whichever a device asks, an item has one outcome."""

import asyncio
import contextlib
import os
import sys
from contextlib import closing
from pathlib import Path

from cloud_node.ledger import open_reader
from fusion.errors import UnavailableError
from fusion.types import ItemState, Verdict
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Submission

PROGRAM = str(Path(sys.executable).with_name("cloud-node"))
SURE, UNSURE = "review.confidence_floor=0", "review.confidence_floor=1"
"""What the nodes are told apart by: the same answers are certain to one and uncertain to the other."""


@contextlib.asynccontextmanager
async def node(ledger, *overrides):
    sets = ["listen=127.0.0.1:0", 'reviewers=["fixed:yard"]', f"ledger={ledger}", "review.pixel_timeout_ms=0"]
    sets += ["batch.items=2", "queue.window=500", *overrides]
    command = [PROGRAM, "serve", *(part for one in sets for part in ("--set", one))]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdout=pipe, stderr=pipe, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
        assert line.startswith("ready on "), (line, (await process.stderr.read()).decode())
        async with open_channel(line.split()[-1]) as channel:
            yield process, ReviewClient(channel)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


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
        async with node(postgres_name, SURE) as (first, client_a), node(postgres_name, UNSURE) as (_, client_b):
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
