"""Whose answers were right, on which items, and how sure they were."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.types import ItemState, SlotAnswer
from replay.results import answers
from replay.results.answers import Answerer, Outcome


def test_the_three_are_compared_on_the_same_items(drawn_run):
    rows = {row.name: row for row in answers.slot_accuracies(drawn_run.task, drawn_run.items)}
    compared = [item for item in drawn_run.items if item.state is ItemState.REVIEWED]
    assert {row.n for row in rows.values()} == {len(compared)}
    right = sum(item.verdict["condition"].option == item.truth.condition for item in compared)
    assert rows["condition"].reviewer == pytest.approx(right / len(compared))
    assert rows["condition"].device == pytest.approx(sum(i.truth.condition == "ok" for i in compared) / len(compared))
    assert rows["object"].reviewer == rows["object"].detector == 1.0


def test_a_whole_verdict_is_right_only_with_every_slot(drawn_run):
    whole = answers.verdict_accuracy(drawn_run.items)
    every = answers.answer_accuracy(drawn_run.items)
    assert every.n == 4 * whole.n
    assert whole.reviewer < every.reviewer < 1.0
    wrong = [item for item in drawn_run.items if item.verdict and answers.outcome(item) is Outcome.WRONG]
    assert whole.reviewer == pytest.approx(1 - len(wrong) / whole.n)
    assert all(sum(answers.right_slots(item, Answerer.REVIEWER).values()) == 3 for item in wrong)


def test_the_lead_is_the_difference_with_its_interval(drawn_run):
    whole = answers.verdict_accuracy(drawn_run.items)
    found = answers.lead(drawn_run.items, Answerer.DEVICE)
    assert found.value == pytest.approx(whole.reviewer - whole.device)
    assert found.low <= found.value <= found.high
    same = [replace(i, device_answers={n: a.option for n, a in i.verdict.items()}) for i in drawn_run.items]
    assert answers.lead(same, Answerer.DEVICE).low == answers.lead(same, Answerer.DEVICE).high == 0
    assert answers.lead([replace(i, device_answers={}) for i in drawn_run.items], Answerer.DEVICE) is None
    assert answers.lead([], Answerer.DETECTOR) is None


def test_one_who_never_answers_has_no_accuracy(drawn_run):
    mute = [replace(item, device_answers={}) for item in drawn_run.items]
    assert answers.verdict_accuracy(mute).device is None
    assert answers.slot_accuracies(drawn_run.task, mute)[0].device is None
    assert answers.verdict_accuracy(mute).detector is not None


def test_a_missing_answer_is_wrong_and_a_missing_truth_is_no_answer(drawn_run):
    item = next(item for item in drawn_run.items if item.verdict)
    assert answers.outcome(replace(item, truth_answers={})) is Outcome.UNKNOWN
    assert answers.outcome(replace(item, verdict={}, device_answers={}, detector_answers={})) is Outcome.UNKNOWN
    short = {name: answer for name, answer in item.verdict.items() if name != "asked"}
    assert answers.outcome(replace(item, verdict=short)) is Outcome.WRONG


def test_the_standing_answer_is_the_best_there_is(drawn_run):
    item = next(item for item in drawn_run.items if item.verdict)
    assert answers.standing(item) is Answerer.REVIEWER
    assert answers.standing(replace(item, verdict={})) is Answerer.DEVICE
    assert answers.standing(replace(item, verdict={}, device_answers={})) is Answerer.DETECTOR


def test_confusions_count_every_judged_item_once(drawn_run):
    judged = answers.judged(drawn_run.items)
    for slot in drawn_run.task.slots:
        found = answers.confusion(slot, drawn_run.items)
        assert found.n == len(judged)
        for truth, row in zip(found.truths, found.counts, strict=True):
            for verdict, number in zip(found.verdicts, row, strict=True):
                pairs = [(i.truth_answers[slot.name], i.verdict[slot.name].option) for i in judged]
                assert number == pairs.count((truth, verdict))


@given(st.lists(st.tuples(st.floats(0.5, 1.0), st.booleans()), min_size=1, max_size=60))
def test_calibration_adds_up(pairs):
    from fusion.task import Task
    from fusion.types import Box2D
    from replay.results.records import ItemResult

    task = Task.load("pcb")
    items = [
        ItemResult(
            f"d/0123456789abcdef/{i + 1}#1", i + 1, i, 0, Box2D(0, 0, 9, 9), "open", 0.5, ItemState.REVIEWED, (),
            verdict={"defect": SlotAnswer("real", {"real": sure, "false-alarm": 1 - sure})},
            truth_answers={"defect": "real" if right else "false-alarm"},
        )
        for i, (sure, right) in enumerate(pairs)
    ]  # fmt: skip
    found = answers.calibration(items)
    assert found.n == sum(one.n for one in found.bins) == len(pairs)
    assert sum(one.n * one.accuracy for one in found.bins) == pytest.approx(sum(right for _, right in pairs))
    assert all(one.low - 1e-9 <= one.confidence <= one.high + 1e-9 for one in found.bins)
    assert 0 <= found.ece <= 1
    assert answers.calibration(items, "defect") == found
    assert answers.calibration(items, "type").n == 0
    assert answers.slot_accuracies(task, items)[0].n == len(pairs)
