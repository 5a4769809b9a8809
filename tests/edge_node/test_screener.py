"""Screening: each reason alone, what one situation costs, the lottery and the byte budget."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.config import ScreeningSettings
from edge_node.fakes import detection
from edge_node.screener import Candidate, Screener, detector_margin, drawn, margin
from edge_node.suspicion import suspicion
from edge_node.tracker import TrackView
from fusion.types import Box2D, FusedObject, ItemId, ItemState, SampleId, SendReason

SECOND = 1_000_000_000
BOX = Box2D(0, 0, 10, 10)
QUIET = {"onset_s": 0.0, "audit_rate": 0.0}


def item(sequence: int, number: int = 1) -> ItemId:
    return ItemId(SampleId("cart-1", "0" * 16, sequence), number)


def fused(label: dict, condition: dict | None = None, asked: float = 0.0) -> FusedObject:
    return FusedObject(np.zeros(4, np.float32), label, condition or {}, asked)


def seen(sequence=1, number=1, score=0.95, other=0.01, track=1, onset_ns=0, **more) -> Candidate:
    found = detection({"drum": score, "cone": other}, BOX)
    return Candidate(item(sequence, number), TrackView(track, onset_ns, 1), found, **more)


def decide(screener: Screener, *candidates: Candidate, at: int = SECOND):
    return screener.decide(at, candidates)


def test_margins():
    assert margin([0.7, 0.2, 0.1]) == pytest.approx(0.5)
    assert margin([0.4]) == 1.0
    assert detector_margin(detection({"a": 0.9, "b": 0.3}, BOX)) == pytest.approx(0.6)
    assert detector_margin(detection({"a": 0.1, "b": 0.05}, BOX)) == pytest.approx(0.8)  # surely nothing


def test_a_sure_item_passes_and_an_unsure_one_is_sent():
    screener = Screener(ScreeningSettings(**QUIET))
    sure, unsure, surely_nothing = decide(
        screener, seen(), seen(number=2, score=0.5, track=2), seen(number=3, score=0.06, track=3)
    )
    assert (sure.state, sure.reasons) == (ItemState.PASSED, ())
    assert (unsure.state, unsure.reasons) == (ItemState.PENDING, (SendReason.UNCERTAIN,))
    assert surely_nothing.state is ItemState.PASSED
    assert unsure.value > sure.value


def test_the_condition_counts_only_for_something_that_is_there():
    torn = {"ok": 0.5, "dented": 0.5}
    screener = Screener(ScreeningSettings(**QUIET))
    thing = seen(fused=fused({"drum": 0.97, "nothing": 0.03}, torn))
    ghost = seen(number=2, score=0.3, track=2, fused=fused({"drum": 0.03, "nothing": 0.97}, torn))
    first, second = decide(screener, thing, ghost)
    assert first.reasons == (SendReason.UNCERTAIN,)
    assert second.state is ItemState.PASSED


@pytest.mark.parametrize("label", [{"cone": 0.9, "drum": 0.1}, {"nothing": 0.9, "drum": 0.1}])
def test_sure_sides_that_differ_disagree(label):
    (decision,) = decide(Screener(ScreeningSettings(**QUIET)), seen(fused=fused(label)))
    assert decision.reasons == (SendReason.DISAGREEMENT,)
    (unsure,) = decide(Screener(ScreeningSettings(**QUIET)), seen(score=0.2, fused=fused(label)))
    assert SendReason.DISAGREEMENT not in unsure.reasons


@pytest.mark.parametrize(
    ("limit", "distance", "reasons"),
    [({}, 1.1, (SendReason.NOVEL,)), ({}, 0.9, ()), ({"novelty": 2.0}, 1.1, ()), ({"novelty": 0.0}, 9.0, ())],
)
def test_what_is_far_from_the_training_set_is_novel(limit, distance, reasons):
    known = {"fused": fused({"drum": 1.0, "nothing": 0.0}), "novelty": distance}
    (decision,) = decide(Screener(ScreeningSettings(**QUIET, **limit)), seen(**known))
    assert decision.reasons == reasons
    assert decision.state is (ItemState.PENDING if reasons else ItemState.PASSED)


def test_onset_delays_everything_but_a_request():
    screener = Screener(ScreeningSettings(onset_s=0.5, audit_rate=0.0))
    early = seen(score=0.5, onset_ns=SECOND)
    (decision,) = decide(screener, early, at=SECOND)
    assert (decision.state, decision.note) == (ItemState.PASSED, "too early in its track")
    (decision,) = decide(screener, seen(score=0.5, onset_ns=SECOND), at=SECOND + SECOND // 2)
    assert decision.state is ItemState.PENDING
    asked = seen(track=2, onset_ns=SECOND, fused=fused({"drum": 1.0}, asked=0.9))
    (decision,) = decide(screener, asked, at=SECOND)
    assert decision.reasons == (SendReason.ASKED_FOR,)


def test_one_situation_of_a_track_is_one_review():
    screener = Screener(ScreeningSettings(**QUIET, repeat_s=5.0))

    def at(second: float, sequence: int, condition: dict, asked: float = 0.0):
        thing = seen(sequence, fused=fused({"drum": 0.9, "nothing": 0.1}, condition, asked))
        return decide(screener, thing, at=round(second * SECOND))[0]

    ok, dented = {"ok": 0.55, "dented": 0.45}, {"ok": 0.45, "dented": 0.55}
    assert at(1, 1, ok).state is ItemState.PENDING
    again = at(2, 2, ok)
    assert (again.state, again.into) == (ItemState.DEDUPLICATED, item(1))
    assert at(3, 3, dented).state is ItemState.PENDING  # the opinion changed
    assert at(3.5, 4, ok).into == item(1)  # flickering back costs nothing
    assert at(4, 5, dented, asked=0.9).state is ItemState.PENDING  # and now it is asked for
    assert at(5.9, 6, ok).into == item(1)
    assert at(6.1, 7, ok).state is ItemState.PENDING  # five seconds after it was sent
    assert at(6.2, 8, {"ok": 0.99, "dented": 0.01}).state is ItemState.PASSED


def test_without_tracking_nothing_is_early_and_nothing_repeats():
    screener = Screener(ScreeningSettings(onset_s=1.0, audit_rate=0.0), tracking=False)
    states = [decide(screener, seen(n, score=0.5, onset_ns=SECOND))[0].state for n in (1, 2)]
    assert states == [ItemState.PENDING, ItemState.PENDING]


def test_the_lottery_draws_its_rate_and_always_the_same_items():
    ids = [item(sequence) for sequence in range(1, 5001)]
    winners = {i for i in ids if drawn(3, 0.1, i)}
    assert 400 < len(winners) < 600
    assert winners == {i for i in ids if drawn(3, 0.1, i)}
    assert winners != {i for i in ids if drawn(4, 0.1, i)}
    assert not any(drawn(3, 0.0, i) for i in ids)
    assert all(drawn(3, 1.0, i) for i in ids)
    (decision,) = decide(Screener(ScreeningSettings(onset_s=0.0, audit_rate=1.0)), seen())
    assert decision.reasons == (SendReason.AUDIT,)


def test_a_thin_budget_sheds_the_lowest_value_first():
    screener = Screener(ScreeningSettings(**QUIET, budget_bytes_per_s=1, budget_burst_bytes=9_000))
    unsure = [seen(number=n, track=n, score=s) for n, s in enumerate((0.60, 0.50, 0.56, 0.54), 1)]
    states = [decision.state for decision in decide(screener, *unsure)]
    assert states == [ItemState.SHED, ItemState.PENDING, ItemState.SHED, ItemState.PENDING]
    shed = decide(screener, seen(2, score=0.6, track=1), at=SECOND + 1)[0]
    assert (shed.state, shed.note) == (ItemState.SHED, "over the byte budget")  # not "deduplicated into" a shed one


def test_an_item_that_could_not_be_encoded_leaves_its_track_to_the_next_one():
    screener = Screener(ScreeningSettings(**QUIET, uncertain_below=0.0, suspect_above=0.5))
    lost, other = decide(screener, seen(1, suspicion=0.9), seen(1, 2, track=2, suspicion=0.9), at=SECOND)
    screener.settle(other, 3000)
    screener.settle(lost, None)
    sent, again = decide(screener, seen(2, suspicion=0.9), seen(2, 2, track=2, suspicion=0.9), at=2 * SECOND)
    assert sent.state is ItemState.PENDING
    assert (again.state, again.into) == (ItemState.DEDUPLICATED, item(1, 2))
    assert decide(screener, seen(3, suspicion=0.9), at=3 * SECOND)[0].into == item(2)


def test_only_tracks_that_go_on_are_remembered():
    screener = Screener(ScreeningSettings(**QUIET, uncertain_below=0.0, suspect_above=0.5, repeat_s=3600.0))
    decide(screener, *(seen(1, n, track=n, suspicion=0.9) for n in (1, 2, 3)))
    screener.keep({2, 4})
    assert [row[0] for row in screener.snapshot()["sent"]] == [2]
    assert decide(screener, seen(2, track=2, suspicion=0.9), at=900 * SECOND)[0].into == item(1, 2)


looks = st.lists(
    st.tuples(st.integers(1, 3), st.floats(0.05, 0.95), st.sampled_from(["ok", "dented"]), st.floats(0, 1)),
    max_size=4,
    unique_by=lambda look: look[0],
)


@given(st.lists(looks, min_size=1, max_size=10), st.data())
@settings(max_examples=60, deadline=None)
def test_every_item_has_one_state_and_a_snapshot_goes_on_exactly(samples, data):
    options = ScreeningSettings(
        onset_s=0.0, audit_rate=0.3, repeat_s=0.3, budget_bytes_per_s=3000, budget_burst_bytes=9000
    )

    def play(screener: Screener, index: int):
        candidates = [
            seen(
                index + 1,
                n,
                score,
                track=track,
                fused=fused({"drum": score, "nothing": 1 - score}, {condition: 1.0}, asked),
            )
            for n, (track, score, condition, asked) in enumerate(samples[index], 1)
        ]
        decisions = screener.decide(index * SECOND // 10, candidates)
        for decision in decisions:
            if decision.state is ItemState.PENDING:
                screener.settle(decision, 3000)
        return decisions

    whole = Screener(options)
    expected = [play(whole, index) for index in range(len(samples))]
    sent = {d.item for decisions in expected for d in decisions if d.state is ItemState.PENDING}
    for decision in (d for decisions in expected for d in decisions):
        assert (decision.state is ItemState.PASSED) == (not decision.reasons)
        assert (decision.into in sent) == (decision.state is ItemState.DEDUPLICATED)
    cut = data.draw(st.integers(0, len(samples) - 1))
    first, second = Screener(options), Screener(options)
    for index in range(cut):
        play(first, index)
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert [play(second, index) for index in range(cut, len(samples))] == expected[cut:]
    assert Counter(d.state for ds in expected for d in ds).total() == sum(map(len, samples))


def test_a_likely_defect_is_sent_and_a_flickering_belief_about_it_is_one_review() -> None:
    screener = Screener(ScreeningSettings(**QUIET, uncertain_below=0.0, suspect_above=0.3, suspect_rise=0.2))

    def about(sequence: int, suspicion: float, condition: str) -> Candidate:
        known = fused({"drum": 1.0, "nothing": 0.0}, {condition: 1.0})
        return seen(sequence, fused=known, suspicion=suspicion)

    sequence = [(0.3, "ok"), (0.5, "ok"), (0.6, "dented"), (0.75, "leaking"), (0.75, "dented")]
    states = [decide(screener, about(n, *each), at=n * SECOND)[0] for n, each in enumerate(sequence, 1)]
    assert [d.state.value for d in states] == ["passed", "pending", "deduplicated", "pending", "deduplicated"]
    assert states[1].reasons == (SendReason.SUSPECT,)
    assert [d.into for d in states] == [None, None, item(2), None, item(4)]


def test_a_state_of_an_earlier_build_is_taken_up() -> None:
    screener = Screener(ScreeningSettings(**QUIET, uncertain_below=0.0, suspect_above=0.3))
    decide(screener, seen(1, suspicion=0.9))
    state = json.loads(json.dumps(screener.snapshot()))
    state["sent"] = [row[:6] for row in state["sent"]]
    later = Screener(screener.settings)
    later.restore(state)
    assert decide(later, seen(2, suspicion=0.95))[0].into == item(1)


@pytest.mark.parametrize(
    ("told", "known", "expected"),
    [
        ({"drum": 0.9}, None, 0.9),
        ({"drum": 0.9}, fused({"drum": 0.8, "nothing": 0.2}, {"ok": 0.75, "dented": 0.25}), 0.2),
        ({"drum": 0.9}, fused({"drum": 0.8, "nothing": 0.2}), 0.8),
    ],
)
def test_how_likely_a_defect_is(told: dict, known: FusedObject | None, expected: float) -> None:
    assert suspicion(detection(told, BOX), known, (), ("ok",)) == pytest.approx(expected)


def test_without_fusion_the_detector_tells_conditions() -> None:
    plain = detection({"drum": 0.9}, BOX)
    told = replace(plain, condition_scores=np.array([0.25, 0.75], np.float32))
    assert suspicion(told, None, ("ok", "dented"), ("ok",)) == pytest.approx(0.9 * 0.75)
