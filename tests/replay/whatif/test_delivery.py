"""Evidence through link and service in virtual time: the books close whatever happens, and the same way twice."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_node.ledger import SqliteLedger
from edge_node.fakes import FAKE_PROFILE, FakePerception
from edge_node.spool import ItemRecord, OutboxBlobs, SampleRecord, Spool
from fusion.errors import ModelError
from fusion.review.fixed import FixedReviewer
from fusion.task import Task
from fusion.types import (
    Availability,
    Box2D,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    ItemId,
    ItemState,
    KeptLanes,
    PixelCrop,
    SampleId,
    SendReason,
)
from fusion.wire.convert import serialize_evidence
from replay.running.plan import Job, Prepared, Variant
from replay.running.review import AtTheEnd
from replay.whatif.surroundings import Surroundings

TASK = Task.load("yard")
EPOCH = "0123456789abcdef"
BOX = Box2D(10, 20, 90, 140)
START_NS = 10**12
STEP_NS = 10**8
PICTURE = cv2.imencode(".jpg", np.full((48, 32, 3), 90, np.uint8))[1].tobytes()


def item_record(sequence, number, tokens, value=1.0):
    item = ItemId(SampleId("replay", EPOCH, sequence), number)
    values = np.random.default_rng(sequence * 100 + number).integers(-9, 9, (tokens, 96), np.int8)
    evidence = Evidence(
        item=item, task="yard", time_ns=START_NS, track=1, profile=FAKE_PROFILE, models={"detector": "fake"}, box=BOX,
        image_width=640, image_height=384, class_scores={"drum": 0.6}, opinion=DeviceOpinion(),
        reasons=(SendReason.UNCERTAIN,), value=value, ages_ns={}, tokens=FusedTokens(values, 0.1),
    )  # fmt: skip
    blobs = OutboxBlobs(serialize_evidence(evidence), FAKE_PROFILE, KeptLanes(PixelCrop(PICTURE, "jpeg", BOX)))
    return ItemRecord(
        number, 1, BOX, "drum", 0.6, {"drum": 0.6}, DeviceOpinion(), ItemState.PENDING, evidence.reasons, value,
        blobs=blobs,
    )  # fmt: skip


def samples(spool, loads):
    """A sample each `STEP_NS` with an item of so many tokens for each of its loads."""
    resume = spool.resume("content", "first")
    for sequence, tokens in enumerate(loads, 1):
        items = tuple(item_record(sequence, n, load, value=load) for n, load in enumerate(tokens, 1))
        at = replace(resume, cursor=sequence, warm_cursor=sequence)
        yield SampleRecord(
            sequence, START_NS + sequence * STEP_NS, {"front": (Availability.PRESENT, 0)}, at, items
        )  # fmt: skip


def deliver(folder, loads, *sets, reviewer=None):
    """(items as (state, verdict, latency in s), facts, outcomes in the service's ledger) of a device's whole life."""
    one = Prepared.of(TASK, Job("a", "x"), Variant(reviewer="fixed:yard", sets=("edge.spool.keep_free_bytes=0", *sets)))
    around, ledger = Surroundings(TASK, one), folder / "ledger.db"
    (folder / "spool.db").unlink(missing_ok=True)
    clock = around.time.clock if around.time else None
    spool = Spool.open(folder / "spool.db", "replay", "yard", settings=one.edge.spool, clock=clock, epoch=EPOCH)
    reviewers = [reviewer or FixedReviewer(TASK)]
    try:
        delivery = around.deliver(spool, FakePerception(), reviewers, ledger)
        delivery = delivery or AtTheEnd(spool, reviewers, ledger, one.cloud, quiet=True)
        for record in samples(spool, loads):
            if around.time:
                around.time.reach(record.time_ns)
            spool.commit([record])
            delivery.advance(record.time_ns)
        delivery.finish()
        rows = spool.query("SELECT state, verdict, answered_ns, decided_ns, note FROM items ORDER BY sequence, item")
        facts = around.facts()
    finally:
        around.close()
        spool.close()
    reader = SqliteLedger.open_reader(ledger)
    outcomes = list(reader.outcomes())
    reader.close()
    items = [(ItemState(state), verdict, ((end or 0) - begin) / 1e9, note) for state, verdict, end, begin, note in rows]
    return items, facts.get("link", {}), outcomes


LOADS = [[3, 5], [], [8], [2, 2, 2], [9]] * 4
EVENT = [[4]] * 30


def states(items):
    return [state for state, *_ in items]


def options(items):
    told = [json.loads(verdict) if verdict else {} for _, verdict, *_ in items]
    return [{name: slot["option"] for name, slot in one.get("slots", {}).items()} for one in told]


def test_a_perfect_link_gives_the_verdicts_of_a_plain_run(tmp_path):
    plain, none, _ = deliver(tmp_path, LOADS)
    timed, facts, outcomes = deliver(tmp_path, LOADS, "world.link.bytes_per_s=1e12")
    assert none == {}
    assert set(states(plain)) == {ItemState.REVIEWED}
    assert states(timed) == states(plain)
    assert options(timed) == options(plain)
    assert [json.loads(v)["lanes"] for _, v, *_ in timed] == [json.loads(v)["lanes"] for _, v, *_ in plain]
    assert len(outcomes) == len(timed)
    assert max(latency for _, _, latency, _ in timed) < 0.02
    assert facts["sent_again"] == 0


def test_a_thin_link_makes_verdicts_late_and_loses_none(tmp_path):
    _, free, _ = deliver(tmp_path, LOADS, "world.link.bytes_per_s=1e12")
    rate = free["bytes"] / 4  # twice as long as the recording
    items, facts, _ = deliver(tmp_path, LOADS, f"world.link.bytes_per_s={rate}", "world.link.latency_ms=50")
    assert set(states(items)) == {ItemState.REVIEWED}
    assert facts["bytes"] <= rate * facts["seconds"] + 1
    assert facts["busy_s"] == pytest.approx(facts["bytes"] / rate, rel=1e-3)
    assert facts["busy_s"] / facts["seconds"] > 0.9
    assert items[-1][2] > items[0][2] + 1 > 1.1
    assert facts["waiting_at_end"] > 0


def test_what_never_left_expires_by_the_devices_own_deadline(tmp_path):
    sets = ("world.link.outages=[[0.5, 2.5]]", "edge.uplink.deadline_s=1", "edge.uplink.window=1")
    items, facts, outcomes = deliver(tmp_path, EVENT, *sets)
    late = [index for index, (state, *_) in enumerate(items) if state is ItemState.EXPIRED]
    assert {note for state, *_, note in items if state is ItemState.EXPIRED} == {"no service before the deadline"}
    assert 8 <= len(late) <= 16
    assert late == list(range(late[0], late[0] + len(late)))
    assert {str(outcome.item) for outcome in outcomes if outcome.state is ItemState.REVIEWED} == {
        str(ItemId(SampleId("replay", EPOCH, n + 1), 1)) for n in range(30) if n not in late
    }
    assert facts["outage_s"] == pytest.approx(2.0)


def test_what_the_service_cannot_make_in_time_it_expires(tmp_path):
    sets = ("world.cloud.reviews_per_s=4", "edge.uplink.deadline_s=1", "cloud.batch.items=1")
    items, _, outcomes = deliver(tmp_path, EVENT, *sets)
    found = states(items)
    assert 4 <= found.count(ItemState.EXPIRED) < 30
    assert any(outcome.state is ItemState.EXPIRED for outcome in outcomes)
    done = [latency for state, _, latency, _ in items if state is ItemState.REVIEWED]
    assert max(done) < 1.6


def test_a_full_spool_sheds_the_least_valuable(tmp_path):
    loads = [[2, 20]] * 20
    sets = ("world.link.bytes_per_s=1000", "edge.spool.max_bytes=20000", "edge.uplink.window=2")
    items, _, _ = deliver(tmp_path, loads, *sets)
    shed = [index % 2 for index, (state, *_) in enumerate(items) if state is ItemState.SHED]
    assert shed
    assert shed.count(0) > shed.count(1)  # items of two tokens are worth less


def test_a_long_outage_breaks_the_stream_and_the_next_one_sends_again(tmp_path):
    items, facts, _ = deliver(tmp_path, LOADS, "world.link.outages=[[0.35, 200]]", "world.link.latency_ms=80")
    assert set(states(items)) == {ItemState.REVIEWED}
    assert facts["streams"] > 1
    assert facts["sent_again"] > 0
    assert facts["seconds"] > 200


def test_a_service_that_goes_away_is_connected_to_again(tmp_path):
    items, facts, _ = deliver(tmp_path, LOADS, "world.cloud.outages=[[0.5, 1.5]]", "world.link.latency_ms=30")
    assert set(states(items)) == {ItemState.REVIEWED}
    assert facts["streams"] == 2
    assert facts["cloud_outage_s"] == pytest.approx(1.0)


def test_pixels_that_come_too_late_change_nothing(tmp_path):
    """And cost the link all the same."""
    quick, free, _ = deliver(tmp_path, LOADS, "world.link.latency_ms=10")
    slow, facts, _ = deliver(tmp_path, LOADS, "world.link.latency_ms=900", "cloud.review.pixel_timeout_ms=1000")
    seen = [sum("pixels" in json.loads(verdict)["lanes"] for _, verdict, *_ in items) for items in (quick, slow)]
    assert free["pixels_asked"] == facts["pixels_asked"] == seen[0] > 0
    assert seen[1] == 0


def test_after_s_ends_the_wait(tmp_path):
    items, _, _ = deliver(tmp_path, EVENT, "world.link.bytes_per_s=3000", "world.link.after_s=0.5")
    found = states(items)
    assert 0 < found.count(ItemState.EXPIRED) < len(found)
    assert items[-1][3] == "no answer 0.5 s after the recording"
    assert max(latency for *_, latency, _ in items) < 3.6


def test_a_link_that_carries_nothing_in_time_ends_too(tmp_path):
    items, facts, outcomes = deliver(tmp_path, [[4], [4]], "world.link.bytes_per_s=1")
    assert states(items) == [ItemState.EXPIRED] * 2
    assert outcomes == []
    assert facts["seconds"] < 1000


def test_a_reviewer_that_fails_is_an_error_and_no_expiry(tmp_path):
    class Broken(FixedReviewer):
        def score(self, batch):
            raise RuntimeError("no")

    with pytest.raises(ModelError, match="fails"):
        deliver(tmp_path, LOADS, "world.link.latency_ms=1", reviewer=Broken(TASK))


worlds = st.fixed_dictionaries(
    {
        "world.link.bytes_per_s": st.sampled_from([300, 2000, 20_000, 1e9]),
        "world.link.latency_ms": st.sampled_from([0, 40, 700]),
        "world.link.outages": st.sampled_from(["[]", "[[0.3, 0.9]]", "[[0.1, 60]]"]),
        "world.cloud.reviews_per_s": st.sampled_from([1, 10, 1000]),
        "world.cloud.outages": st.sampled_from(["[]", "[[0.4, 1.0]]"]),
        "edge.uplink.deadline_s": st.sampled_from([0, 0.4, 3]),
        "edge.uplink.window": st.sampled_from([1, 4, 64]),
        "edge.spool.max_bytes": st.sampled_from([6000, 10**8]),
    }
)
numbers = count()


@settings(max_examples=12, deadline=None)
@given(worlds, st.lists(st.lists(st.integers(1, 12), max_size=3), min_size=1, max_size=14))
def test_every_item_ends_once_and_every_run_the_same(tmp_path_factory, world, loads):
    folder = tmp_path_factory.mktemp(f"world{next(numbers)}")
    sets = [f"{key}={value}" for key, value in world.items()]
    first, facts, outcomes = deliver(folder, loads, *sets)
    assert len(first) == sum(map(len, loads))
    assert all(state.final for state in states(first))
    reviewed = {str(one.item) for one in outcomes if one.state is ItemState.REVIEWED}
    assert len({str(one.item) for one in outcomes}) == len(outcomes)
    ids = [
        str(ItemId(SampleId("replay", EPOCH, sequence), n))
        for sequence, tokens in enumerate(loads, 1)
        for n, _ in enumerate(tokens, 1)
    ]
    told = {item for item, state in zip(ids, states(first), strict=True) if state is ItemState.REVIEWED}
    assert told <= reviewed
    assert all(latency >= world["world.link.latency_ms"] / 1e3 * 2 for state, _, latency, _ in first
               if state is ItemState.REVIEWED)  # fmt: skip
    assert facts["bytes"] <= world["world.link.bytes_per_s"] * facts["seconds"] + 1
    second, again, _ = deliver(folder, loads, *sets)
    assert (second, again) == (first, facts)


@pytest.mark.parametrize("outage", ["world.link.outages=[[2,1e9]]", "world.cloud.outages=[[2,1e9]]"])
def test_what_is_out_for_ever_is_not_waited_for(tmp_path, outage):
    items, _, outcomes = deliver(tmp_path, EVENT, "world.link.bytes_per_s=1e6", outage)
    assert {ItemState.REVIEWED, ItemState.EXPIRED} == set(states(items))
    assert len(outcomes) >= states(items).count(ItemState.REVIEWED)
    assert all("more than a day" in note for state, *_, note in items if state is ItemState.EXPIRED)


def test_outages_that_come_again_do_not_keep_a_starved_link_waiting(tmp_path):
    """Would not end if every outage were a reason to wait anew."""
    items, facts, _ = deliver(
        tmp_path, [[250]] * 3, "world.link.bytes_per_s=2", "world.link.every_s=30", "world.link.for_s=1"
    )
    assert ItemState.EXPIRED in states(items)
    assert any("no answer for" in note for *_, note in items)
    assert facts["waiting_at_end"] == 3
