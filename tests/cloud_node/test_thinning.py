"""Under load less is read of an item before one is refused."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.thinning import Level, Thinning, thin, thinner
from fusion.errors import EvidenceError
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemState

FILLS = st.floats(0, 1.5, allow_nan=False)


@given(st.lists(FILLS, max_size=30), FILLS, FILLS)
def test_a_fuller_queue_never_means_less_left_out(before, one, other):
    def level_after(last):
        thinning = Thinning()
        for fill in before:
            thinning.decide(fill)
        return thinning.decide(last)

    low, high = sorted((one, other))
    assert level_after(low) <= level_after(high)


@given(st.lists(FILLS, max_size=30))
def test_an_empty_queue_reads_everything_again(before):
    thinning = Thinning()
    for fill in before:
        thinning.decide(fill)
    assert thinning.decide(0.0) is Level.ALL


def test_the_level_does_not_flicker_at_its_edge():
    thinning = Thinning()
    assert thinning.decide(0.49) is Level.ALL
    assert thinning.decide(0.51) is Level.NO_PICTURES
    assert thinning.decide(0.49) is Level.NO_PICTURES
    assert thinning.decide(0.26) is Level.NO_PICTURES
    assert thinning.decide(0.24) is Level.ALL


def test_an_item_short_of_time_is_thinned_alone():
    thinning = Thinning()
    assert thinning.decide(0.0, drain_ns=90, slack_ns=100) is Level.NO_MAPS
    assert thinning.decide(0.0, drain_ns=90, slack_ns=1000) is Level.ALL
    assert Thinning(enabled=False).decide(1.0, drain_ns=90, slack_ns=1) is Level.ALL


@pytest.mark.parametrize("cells", [1, 8, 33])
def test_the_price_never_rises_with_the_level(yard, make_evidence, cells):
    reviewer, evidence = FixedReviewer(yard), make_evidence(1, cells=cells)
    priced = [thin(evidence, level, reviewer.cost) for level in Level]
    assert all(reviewer.cost(read) == tokens for read, tokens, _ in priced)
    tokens = [reviewer.cost(evidence), *(price for _, price, _ in priced)]
    assert tokens == sorted(tokens, reverse=True)
    assert tokens[-1] < tokens[0]


def test_what_is_left_out(make_evidence):
    evidence = make_evidence(1)
    assert thinner(evidence, Level.NO_PICTURES) is evidence
    lean = thinner(evidence, Level.NO_SCENE)
    assert (lean.tokens.values == evidence.tokens.values[:1]).all()
    assert lean.maps is evidence.maps
    assert thinner(evidence, Level.NO_MAPS).maps is None
    only_maps = replace(evidence, tokens=None)
    assert thinner(only_maps, Level.NO_MAPS) is only_maps


def test_nothing_is_left_out_that_saves_nothing(make_evidence):
    evidence = make_evidence(1)
    assert thin(evidence, Level.NO_MAPS, lambda _: 7) == (evidence, 7, Level.ALL)

    def needs_maps(read):
        if read.maps is None:
            raise EvidenceError("no maps")
        return 10 + len(read.tokens.values)

    read, tokens, level = thin(evidence, Level.NO_MAPS, needs_maps)
    assert (read.maps, tokens, level) == (evidence.maps, 11, Level.NO_SCENE)


@pytest.mark.parametrize("thins", ["true", "false"])
def test_a_filling_queue_is_answered_from_less(serving, connect, exchange_all, make_evidence, held, thins):
    settings = "queue.items=10", "batch.items=4", f"queue.thin={thins}"

    async def run():
        async with serving(*settings, reviewer=held) as (service, client):
            stream, _ = await connect(client)
            answering = asyncio.create_task(exchange_all(stream, [make_evidence(n) for n in range(1, 11)]))
            await held.begins()
            while service.metrics.registry.get_sample_value("fusion_cloud_queue_items") < 10:
                await asyncio.sleep(0)
            held.gate.set()
            answers = await answering
            later = await exchange_all(stream, [make_evidence(11)])
            stream.cancel()
            told = service.metrics.registry.get_sample_value
            levels = {level: told("fusion_cloud_thinned_items_total", {"level": level.name.lower()}) for level in Level}
            return {item.sample.sequence: got for item, (got,) in (answers | later).items()}, levels

    answers, levels = asyncio.run(run())
    lanes = {sequence: verdict.lanes for sequence, verdict in answers.items()}
    assert lanes[1] == lanes[11] == ("maps", "tokens")
    assert lanes[10] == (("tokens",) if thins == "true" else ("maps", "tokens"))
    assert bool(levels[Level.NO_MAPS]) == (thins == "true")
    assert levels[Level.ALL] >= 2


def test_the_ledger_keeps_what_was_left_out(serving, connect, exchange_all, make_evidence, held, tmp_path):
    from cloud_node.ledger import open_reader

    async def run():
        async with serving("queue.items=10", "batch.items=4", reviewer=held) as (service, client):
            stream, _ = await connect(client)
            answering = asyncio.create_task(exchange_all(stream, [make_evidence(n) for n in range(1, 11)]))
            await held.begins()
            while service.metrics.registry.get_sample_value("fusion_cloud_queue_items") < 10:
                await asyncio.sleep(0)
            held.gate.set()
            await answering
            stream.cancel()

    asyncio.run(run())
    reader = open_reader(str(tmp_path / "ledger.db"))
    stored = {outcome.item.sample.sequence: outcome for outcome in reader.outcomes()}
    reader.close()
    assert {outcome.state for outcome in stored.values()} == {ItemState.REVIEWED}
    assert stored[1].timings.thinned == Level.ALL
    assert stored[10].timings.thinned == Level.NO_MAPS
    assert [stored[n].timings.thinned for n in range(1, 11)] == sorted(o.timings.thinned for o in stored.values())


def test_no_picture_is_asked_for_while_too_much_waits(serving, connect, make_evidence, held):
    from fusion.wire.messages import Submission

    settings = "queue.items=10", "batch.items=1", "review.confidence_floor=1.0", "review.pixel_timeout_ms=60000"

    async def run():
        async with serving(*settings, reviewer=held) as (service, client):
            stream, _ = await connect(client)
            for n in range(1, 11):
                await stream.send(Submission.of(make_evidence(n)))
            await held.begins()
            while service.metrics.registry.get_sample_value("fusion_cloud_queue_items") < 10:
                await asyncio.sleep(0)
            held.gate.set()
            answers = [await stream.receive() for _ in range(10)]
            stream.cancel()
            return answers

    kinds = [type(answer).__name__ for answer in asyncio.run(run())]
    assert kinds.count("Verdict") >= 5
    assert kinds.count("PixelRequest") >= 1


def test_fewer_are_refused_and_nobody_starves(thinning):
    without, with_it = (thinning.simulate(1.8, 2.5, thins=thins) for thins in (False, True))
    lost = [got.ends["shed"] + got.ends["expired"] for got in (without, with_it)]
    assert lost[1] < 0.2 * lost[0]
    assert sum(with_it.in_time.values()) > 1.1 * sum(without.in_time.values())
    for device, sent in with_it.sent.items():
        assert with_it.in_time[device] > 0.8 * sent
    assert with_it.last_level is Level.ALL


def test_a_light_load_is_read_whole(thinning):
    got = thinning.simulate(0.7, 2.0, thins=True)
    assert set(got.levels) == {Level.ALL}
    assert got.ends["shed"] == got.ends["expired"] == 0


def test_while_the_reviewer_is_overloaded_the_least_is_read_of_what_has_a_deadline():
    """Its queue is kept short then, so that fill and drain tell of no load."""
    thinning = Thinning()
    assert thinning.decide(0.1, 0, 10**9, overloaded=True) is Level.NO_MAPS
    assert thinning.decide(0.1, 0, 10**9) is Level.ALL
    assert thinning.decide(0.1, 0, None, overloaded=True) is Level.ALL
    assert Thinning(enabled=False).decide(0.1, 0, 10**9, overloaded=True) is Level.ALL
