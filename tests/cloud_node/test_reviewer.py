"""Rows are isolated, a broken reviewer is told from a poisoned row; the direct service does what the real one does."""

import asyncio
import re
import threading
from dataclasses import replace

import pytest

from cloud_node.admission import MAX_RETRY_S, MIN_RETRY_S, Admission
from cloud_node.config import QueueSettings
from cloud_node.direct import DirectService
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Poisoned, Scored
from cloud_node.ledger import SqliteLedger
from cloud_node.roster import Roster
from fusion.clock import ManualClock
from fusion.errors import EvidenceError, ModelError, OverloadedError, ProtocolError, UnknownProfileError
from fusion.review.fixed import FixedReviewer
from fusion.task import Task
from fusion.types import Box2D, ItemState, KeptLanes, PixelCrop, SlotAnswer, Verdict
from fusion.wire.messages import PixelAnswer, PixelRequest, Submission

CROP = PixelCrop(b"a picture", "png", Box2D(0, 0, 9, 9))


class Scripted(FixedReviewer):
    """Fails on any batch that holds one of `poison`, or on all while `broken`; counts its forwards."""

    poison = frozenset()
    broken = False
    forwards = 0

    def score(self, batch):
        type(self).forwards += 1
        if type(self).broken or any(row.item.sample.sequence in type(self).poison for row in batch):
            raise RuntimeError("boom")
        return super().score(batch)


class PixelsOnly(Scripted):
    """Reads the picture alone; of an item without one it knows nothing, and asks no model."""

    pixels_only = True

    def prepare(self, evidence):
        return replace(super().prepare(evidence), blind=evidence.pixels is None)

    def score(self, batch):
        told = iter(super().score(seen) if (seen := [row for row in batch if not row.blind]) else ())
        nothing = {
            s.name: SlotAnswer(s.options[0], dict.fromkeys(s.options, 1 / len(s.options))) for s in self.task.slots
        }
        return [nothing if row.blind else next(told) for row in batch]


@pytest.fixture
def scripted(yard):
    Scripted.poison, Scripted.broken, Scripted.forwards = frozenset(), False, 0
    return BatchReviewer(Scripted(yard))


@pytest.fixture
def pixels_only(yard):
    PixelsOnly.poison, PixelsOnly.broken = frozenset(), False
    return PixelsOnly(yard)


def test_a_poisoned_row_is_found_in_few_forwards(scripted, make_evidence):
    Scripted.poison = {23}
    results = scripted.review([make_evidence(n) for n in range(64)[1:]])
    assert [n for n, result in enumerate(results, 1) if isinstance(result, Poisoned)] == [23]
    assert Scripted.forwards <= 1 + 2 * 6
    assert sum(isinstance(result, Scored) for result in results) == 62


def test_a_lone_poisoned_row_is_settled_by_the_witness(scripted, make_evidence):
    assert isinstance(scripted.review([make_evidence(1)])[0], Scored)
    Scripted.poison = {2}
    assert isinstance(scripted.review([make_evidence(2)])[0], Poisoned)
    Scripted.broken = True
    assert isinstance(scripted.review([make_evidence(3)])[0], Failed)
    assert all(isinstance(result, Failed) for result in scripted.review([make_evidence(n) for n in (4, 5)]))


def test_without_a_witness_nobody_is_blamed(scripted, make_evidence):
    """A reviewer that never answered anything is broken, however often the same row comes."""
    Scripted.broken = True
    for _ in range(5):
        results = scripted.review([make_evidence(1), make_evidence(2)])
        assert [type(result) for result in results] == [Failed, Failed]
    Scripted.broken, Scripted.poison = False, {2}
    assert isinstance(scripted.review([make_evidence(2)])[0], Failed)
    assert isinstance(scripted.review([make_evidence(1)])[0], Scored)
    assert isinstance(scripted.review([make_evidence(2)])[0], Poisoned)


def test_rows_that_no_model_scored_bear_no_witness(pixels_only, make_evidence):
    batches = BatchReviewer(pixels_only)
    assert isinstance(batches.review([make_evidence(1, pixels=CROP)])[0], Scored)
    PixelsOnly.broken = True
    mixed = batches.review([make_evidence(2), make_evidence(3, pixels=CROP), make_evidence(4, pixels=CROP)])
    assert [type(result) for result in mixed] == [Scored, Failed, Failed]
    assert isinstance(batches.review([make_evidence(5)])[0], Scored)
    assert isinstance(batches.review([make_evidence(6, pixels=CROP)])[0], Failed)
    assert not batches.answers_again()
    PixelsOnly.broken, PixelsOnly.poison = False, {3}
    assert isinstance(batches.review([make_evidence(3, pixels=CROP)])[0], Poisoned)
    assert batches.answers_again()


def test_a_reviewer_that_returns_too_few_answers_has_failed(yard, make_evidence):
    class Short(FixedReviewer):
        def score(self, batch):
            return super().score(batch)[:-1]

    results = BatchReviewer(Short(yard)).review([make_evidence(1), make_evidence(2)])
    assert all(isinstance(result, Failed) for result in results)


@pytest.mark.parametrize("tokens", [0, 101])
def test_a_price_no_batch_can_pay_is_refused(yard, make_evidence, tokens):
    class Dear(FixedReviewer):
        def cost(self, evidence):
            return tokens

    with pytest.raises(EvidenceError, match=f"costs {tokens}"):
        BatchReviewer(Dear(yard)).price(make_evidence(1), 100)


def test_a_price_that_cannot_be_told_is_refused(yard, make_evidence):
    class Confused(FixedReviewer):
        def cost(self, evidence):
            raise KeyError("x")

    with pytest.raises(EvidenceError, match="KeyError"):
        BatchReviewer(Confused(yard)).price(make_evidence(1), 100)


def test_the_roster_finds_the_current_and_the_previous_trunk(yard, make_evidence):
    class Previous(FixedReviewer):
        name = "fixed:previous"

    current, previous = FixedReviewer(yard, frozenset({"ab" * 32})), Previous(yard, frozenset({"cd" * 32}))
    roster = Roster([current, previous, FixedReviewer(Task.load("pcb"))])
    assert roster.choose(make_evidence(1)) is current
    assert roster.choose(make_evidence(1, profile="cd" * 32)) is previous
    assert roster.profiles_of("yard") == ("ab" * 32, "cd" * 32)
    with pytest.raises(UnknownProfileError, match="cd" * 32):
        roster.choose(make_evidence(1, profile="ee" * 32))
    with pytest.raises(UnknownProfileError, match="served: pcb, yard"):
        roster.choose(make_evidence(1, task="driving"))
    with pytest.raises(ProtocolError):
        roster.profiles_of("driving")
    with pytest.raises(ModelError, match="no trunk"):
        Roster([FixedReviewer(yard, frozenset())])
    with pytest.raises(ModelError, match="twice"):
        Roster([current, current])


def test_admission_bounds_items_tokens_and_windows():
    waits_ns = [0]
    admission = Admission(QueueSettings(items=3, tokens=100, window=2), lambda: waits_ns[0])
    admission.enter(60)
    with pytest.raises(OverloadedError) as full:
        admission.enter(41)
    assert full.value.retry_after_s == MIN_RETRY_S
    admission.enter(20)
    admission.enter(20)
    waits_ns[0] = 4_000_000_000
    with pytest.raises(OverloadedError) as full:
        admission.enter(1)
    assert full.value.retry_after_s == 2.0
    waits_ns[0] = 10**15
    assert admission.retry_after_s() == MAX_RETRY_S
    admission.enter_again(500)
    for tokens in (60, 20, 20, 500):
        admission.leave(tokens)
    assert (admission.items, admission.tokens) == (0, 0)
    admission.open("a")
    admission.open("a")
    with pytest.raises(OverloadedError, match="window"):
        admission.open("a")
    admission.open("b")
    admission.close("a")
    admission.open("a")


def direct(tmp_path, name, settings, reviewer):
    ledger = SqliteLedger.open(tmp_path / name)
    return DirectService([reviewer], ledger, settings, ManualClock(5)), ledger


def test_the_direct_service_is_deterministic_and_remembers(tmp_path, make_settings, make_evidence, yard):
    submissions = [Submission.of(make_evidence(n)) for n in range(1, 31)]
    settings = make_settings("review.confidence_floor=0.4", "review.pixel_timeout_ms=5000")
    runs = []
    for name in ("a.db", "b.db"):
        service, ledger = direct(tmp_path, name, settings, FixedReviewer(yard))
        first = service.review(submissions, lambda item: KeptLanes(CROP if item.sample.sequence % 2 else None))
        assert [outcome.item for outcome in first] == [submission.item for submission in submissions]
        again = service.review(submissions)
        assert [outcome.verdict for outcome in again] == [outcome.verdict for outcome in first]
        runs.append(list(ledger.reader().outcomes(with_evidence=True)))
    assert runs[0] == runs[1]
    lanes = {outcome.item.sample.sequence % 2: set() for outcome in runs[0]}
    for outcome in runs[0]:
        lanes[outcome.item.sample.sequence % 2].add("pixels" in outcome.verdict.lanes)
        assert outcome.verdict.uncertain <= (outcome.item.sample.sequence % 2 == 0)
    assert lanes == {1: {True, False}, 0: {False}}


def test_the_direct_service_gives_what_the_real_one_gives(
    tmp_path, make_settings, make_evidence, yard, serving, connect
):
    evidence = [make_evidence(n) for n in range(1, 21)]
    overrides = ("review.confidence_floor=0.4", "review.pixel_timeout_ms=5000")
    service, _ = direct(tmp_path, "direct.db", make_settings(*overrides), FixedReviewer(yard))
    given = [Submission.of(e) for e in evidence]
    expected = {o.item: o.message() for o in service.review(given, lambda _: KeptLanes(CROP))}

    async def run():
        async with serving(*overrides, reviewer=FixedReviewer(yard)) as (_, client):
            stream, _ = await connect(client)
            for one in evidence:
                await stream.send(Submission.of(one))
            got = {}
            while len(got) < len(evidence):
                answer = await stream.receive()
                if isinstance(answer, PixelRequest):
                    await stream.send(PixelAnswer(answer.item, CROP))
                else:
                    got[answer.item] = answer
            stream.cancel()
            return got

    got = asyncio.run(run())
    for item, verdict in got.items():
        assert (verdict.lanes, verdict.uncertain) == (expected[item].lanes, expected[item].uncertain)
        for name, answer in verdict.slots.items():
            assert answer.probabilities == pytest.approx(expected[item].slots[name].probabilities, abs=1e-6)


def test_the_direct_service_stores_no_answers_that_nothing_was_read_for(
    pixels_only, tmp_path, make_settings, make_evidence
):
    settings = make_settings("review.confidence_floor=0.5", "review.pixel_timeout_ms=5000")
    service, ledger = direct(tmp_path, "l.db", settings, pixels_only)
    PixelsOnly.broken = True
    with pytest.raises(ModelError):
        service.review([Submission.of(make_evidence(1))], lambda _: KeptLanes(CROP))
    assert ledger.reader().counts() == {}
    PixelsOnly.broken, PixelsOnly.poison = False, {2}
    outcomes = service.review([Submission.of(make_evidence(n)) for n in (1, 2)], lambda _: KeptLanes(CROP))
    assert [outcome.state for outcome in outcomes] == [ItemState.REVIEWED, ItemState.QUARANTINED]


@pytest.mark.parametrize("breaks", ["model", "picture"])
def test_the_service_stores_no_answers_that_nothing_was_read_for(
    pixels_only, serving, connect, make_evidence, tmp_path, breaks
):
    overrides = ("review.confidence_floor=0.5", "review.pixel_timeout_ms=60000")

    async def run():
        async with serving(*overrides, reviewer=pixels_only) as (_, client):
            stream, _ = await connect(client)
            PixelsOnly.broken, PixelsOnly.poison = breaks == "model", frozenset({999})
            await stream.send(Submission.of(make_evidence(999)))
            request = await stream.receive()
            await stream.send(PixelAnswer(request.item, CROP))
            answer = await stream.receive()
            stream.cancel()
            return answer

    answer = asyncio.run(run())
    counts = SqliteLedger.open_reader(tmp_path / "ledger.db").counts()
    if breaks == "model":
        assert (answer.retriable, counts) == (True, {})
    else:
        assert (answer.state, counts) == (ItemState.QUARANTINED, {ItemState.QUARANTINED: 1})


def test_an_item_whose_picture_comes_too_late_to_be_read_has_expired(
    pixels_only, serving, connect, make_evidence, tmp_path, monkeypatch
):
    """Nothing was read of it before: what the first review said is no verdict."""
    begun, gate, real = threading.Event(), threading.Event(), PixelsOnly.score

    def score(self, batch):
        if any(not row.blind for row in batch):
            begun.set()
            assert gate.wait(60)
        return real(self, batch)

    gate.set()
    monkeypatch.setattr(PixelsOnly, "score", score)
    overrides = ("review.confidence_floor=0.5", "review.pixel_timeout_ms=60000", "batch.items=1")

    async def run():
        async with serving(*overrides, reviewer=pixels_only) as (_, client):
            stream, _ = await connect(client)
            for n, deadline_ms in ((1, 600_000), (2, 4000)):
                await stream.send(Submission.of(make_evidence(n), deadline_ms=deadline_ms))
                assert isinstance(await stream.receive(), PixelRequest)
            begun.clear()
            gate.clear()
            for n in (1, 2):
                await stream.send(PixelAnswer(make_evidence(n).item, CROP))
                assert await asyncio.to_thread(begun.wait, 60)
            await asyncio.sleep(4)
            gate.set()
            answers = [await stream.receive() for _ in range(2)]
            stream.cancel()
            return {answer.item.sample.sequence: answer for answer in answers}

    answers = asyncio.run(run())
    assert isinstance(answers[1], Verdict)
    assert answers[2].state is ItemState.EXPIRED
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {ItemState.REVIEWED: 1, ItemState.EXPIRED: 1}


def test_the_direct_service_asks_for_nothing_where_the_real_one_never_asks(
    tmp_path, make_settings, make_evidence, yard
):
    asked = []
    for timeout_ms in (0, 1):
        settings = make_settings("review.confidence_floor=1.0", f"review.pixel_timeout_ms={timeout_ms}")
        service, _ = direct(tmp_path, f"{timeout_ms}.db", settings, FixedReviewer(yard))
        (outcome,) = service.review([Submission.of(make_evidence(1))], lambda item: asked.append(1) or KeptLanes(CROP))
        assert (len(asked), "pixels" in outcome.verdict.lanes) == (timeout_ms, bool(timeout_ms))


def test_the_direct_service_quarantines_and_names_what_it_does_not_serve(tmp_path, make_settings, make_evidence, yard):
    Scripted.poison, Scripted.broken = {2}, False
    service, ledger = direct(tmp_path, "l.db", make_settings(), Scripted(yard, frozenset({"ab" * 32})))
    spoiled = Submission.of(make_evidence(3))
    bad = Submission(spoiled.item, re.sub(rb"yard", b"    ", spoiled.blob))
    outcomes = service.review([Submission.of(make_evidence(1)), Submission.of(make_evidence(2)), bad])
    assert [outcome.state for outcome in outcomes] == [
        ItemState.REVIEWED,
        ItemState.QUARANTINED,
        ItemState.QUARANTINED,
    ]
    with pytest.raises(UnknownProfileError):
        service.review([Submission.of(make_evidence(4, profile="cd" * 32))])
    Scripted.broken = True
    with pytest.raises(ModelError):
        service.review([Submission.of(make_evidence(5))])
    assert ledger.reader().counts() == {ItemState.REVIEWED: 1, ItemState.QUARANTINED: 2}
