"""Reviewers are found by name, their answers are checked, and the fixed one keeps the contract."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import ConfigError, ModelError
from fusion.review import ANY_PROFILE, check_answers, load_reviewer, serves
from fusion.review.fixed import FixedReviewer
from fusion.task import Task
from fusion.types import (
    Box2D,
    CellWindow,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    GatedMaps,
    ItemId,
    MapLayer,
    PixelCrop,
    SampleId,
    SlotAnswer,
)
from fusion.wire import messages

YARD = Task.load("yard")


def evidence(sequence=1, gate=b"\xff", **changes) -> Evidence:
    made = Evidence(
        item=ItemId(SampleId("cart-1", "0" * 16, sequence), 1),
        task="yard",
        time_ns=0,
        track=0,
        profile="ab" * 32,
        models={},
        box=Box2D(0, 0, 9, 9),
        image_width=640,
        image_height=384,
        class_scores={},
        opinion=DeviceOpinion(),
        reasons=(),
        value=0.0,
        ages_ns={},
        maps=GatedMaps((CellWindow(0, 0, 4, 2),), gate, (MapLayer(b"symbols!", 0),)),
        tokens=FusedTokens(np.ones((9, 4), np.int8), 1.0),
    )
    return replace(made, **changes)


def test_reviewers_are_found_by_their_scheme():
    reviewer = load_reviewer("fixed:pcb")
    assert reviewer.task.name == "pcb"
    assert reviewer.name == "fixed:pcb"


@pytest.mark.parametrize(
    ("name", "words"), [("yard", "SCHEME:ARGUMENT"), ("oracle:yard", "fixed"), ("fixed:", "SCHEME")]
)
def test_a_name_nobody_has_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        load_reviewer(name)


def test_a_task_nobody_has_is_refused():
    with pytest.raises(ConfigError, match="mars"):
        load_reviewer("fixed:mars")


def test_any_profile_means_the_same_on_both_sides_of_the_wire():
    assert messages.ANY_PROFILE == ANY_PROFILE
    assert serves(FixedReviewer(YARD), "anything")
    assert not serves(FixedReviewer(YARD, frozenset({"ab"})), "cd")


@given(st.integers(1, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_fixed_reviewer_keeps_the_contract(sequence, gate, pixels):
    reviewer = FixedReviewer(YARD)
    crop = PixelCrop(b"x", "png", Box2D(0, 0, 1, 1)) if pixels else None
    one = evidence(sequence, gate, pixels=crop)
    row = reviewer.prepare(one)
    assert row.item == one.item
    assert row.tokens == reviewer.cost(one) >= 1
    (answers,) = reviewer.score([row])
    check_answers(YARD, answers)
    assert reviewer.score([row, reviewer.prepare(evidence(sequence + 1)), row])[2] == answers
    if pixels:
        assert min(answer.confidence for answer in answers.values()) >= 0.9
    for answer in answers.values():
        assert answer.option == max(answer.probabilities, key=answer.probabilities.get)


def test_the_fixed_reviewer_listens_to_the_evidence():
    reviewer = FixedReviewer(YARD)
    rows = [reviewer.prepare(evidence(1, bytes([n]))) for n in range(50)]
    options = {answers["object"].option for answers in reviewer.score(rows)}
    confidences = [answers["object"].confidence for answers in reviewer.score(rows)]
    assert len(options) >= 4
    assert min(confidences) < 0.4
    assert max(confidences) > 0.9


def _answers():
    return {
        slot.name: SlotAnswer(slot.options[0], {name: 1 / len(slot.options) for name in slot.options})
        for slot in YARD.slots
    }


def _changed(**changes):
    return _answers() | changes


@pytest.mark.parametrize(
    "answers",
    [
        {},
        _changed(extra=SlotAnswer("a", {"a": 1.0})),
        _changed(asked=SlotAnswer("no", {"no": 1.0})),
        _changed(asked=SlotAnswer("perhaps", {"no": 0.5, "yes": 0.5})),
        _changed(asked=SlotAnswer("no", {"no": 0.5, "yes": 0.4})),
        _changed(asked=SlotAnswer("no", {"no": math.nan, "yes": 1.0})),
        _changed(asked=SlotAnswer("no", {"no": 1.5, "yes": -0.5})),
    ],
)
def test_answers_outside_the_task_are_the_reviewers_fault(answers):
    check_answers(YARD, _answers())
    with pytest.raises(ModelError):
        check_answers(YARD, answers)
