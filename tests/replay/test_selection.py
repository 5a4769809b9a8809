"""Which items get pictures."""

from dataclasses import replace

from fusion.types import ItemState
from replay.report.selection import chosen
from replay.results.answers import Outcome, outcome


def test_all_reviewed_items_are_chosen_when_they_fit(drawn_run):
    reviewed = {item.id for item in drawn_run.items if item.state is ItemState.REVIEWED}
    assert reviewed <= {item.id for item in chosen(drawn_run.items, 72)}


def test_no_item_is_chosen_twice_and_none_beyond_the_cap(draw):
    run = draw.run(draw.recording(40))
    for most in (0, 1, 7, 30, 1000):
        ids = [item.id for item in chosen(run.items, most)]
        assert len(ids) == len(set(ids)) <= most


def test_under_a_cap_every_kind_has_its_place(draw):
    run = draw.run(draw.recording(90))
    picked = chosen(run.items, 20)
    assert len(picked) == 20
    assert outcome(picked[0]) is Outcome.WRONG
    reviewed = [item for item in picked if item.state is ItemState.REVIEWED]
    assert {outcome(item) for item in reviewed} == {Outcome.RIGHT, Outcome.WRONG}
    assert ItemState.SHED in {item.state for item in picked}
    assert len(reviewed) == 16


def test_the_surest_errors_come_first(draw):
    picked = chosen(draw.run(draw.recording(90)).items, 12)
    wrong = [item for item in picked if item.verdict and outcome(item) is Outcome.WRONG]
    sure = [min(answer.confidence for answer in item.verdict.values()) for item in wrong]
    assert sure == sorted(sure, reverse=True)


def test_of_a_missed_track_one_item_is_enough(drawn_run):
    passed = [replace(item, state=ItemState.PASSED, verdict={}) for item in drawn_run.items]
    picked = chosen(passed, 72)
    assert len(picked) == len({item.track for item in picked}) > 0
    assert all(outcome(item) is Outcome.WRONG for item in picked)
