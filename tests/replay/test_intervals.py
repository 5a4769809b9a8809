"""Intervals: Wilson's against published values, and items of one thing counted as one witness."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.results.answers import Answerer, clusters
from replay.results.intervals import accuracy, clustered, missed_share, needless, wilson
from replay.results.records import DefectResult, Fate


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombe(hits, n, low, high):
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(case):
    hits, n = case
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert low < high
    assert wilson(n - hits, n) == pytest.approx((1 - high, 1 - low))


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="no trials"):
        wilson(0, 0)


def test_items_of_one_thing_are_one_witness():
    rng = np.random.default_rng(3)
    marks = rng.integers(0, 2, 30).astype(float)
    few = clustered(np.repeat(marks, 20), np.repeat(np.arange(30), 20))
    many = clustered(np.repeat(marks, 20), np.arange(600))
    assert few.value == many.value == pytest.approx(marks.mean())
    assert few.high - few.low > 3 * (many.high - many.low)


def test_where_all_agree_the_interval_is_not_a_point():
    found = clustered(np.ones(40), np.repeat(np.arange(4), 10))
    assert (found.low, found.high) == wilson(4, 4)
    assert found.n == 40


def test_tracks_of_different_recordings_are_different_things(drawn_run):
    items = [*drawn_run.items, *(replace(item, recording="other") for item in drawn_run.items)]
    numbers = clusters(items)
    half = len(items) // 2
    assert set(numbers[:half].tolist()).isdisjoint(numbers[half:].tolist())
    assert len(set(numbers.tolist())) == 2 * len({item.track for item in drawn_run.items})


def test_accuracy_is_that_of_the_judged_items_with_its_interval(drawn_run):
    judged = [item for item in drawn_run.items if item.verdict]
    found = accuracy(drawn_run.items, Answerer.REVIEWER, "condition")
    right = sum(item.verdict["condition"].option == item.truth_answers["condition"] for item in judged)
    assert found.value == pytest.approx(right / len(judged))
    assert found.n == len(judged)
    assert found.low < found.value < found.high
    assert accuracy([], Answerer.REVIEWER) is None
    assert accuracy([replace(item, device_answers={}) for item in judged], Answerer.DEVICE) is None


def test_missed_defects_and_needless_reviews(drawn_run):
    made = [DefectResult(str(n), "r", "drum", "dented", n, 1, fate) for n, fate in enumerate(Fate)]
    assert missed_share(made).value == (len(Fate) - 2) / len(Fate)
    assert missed_share([]) is None
    assert needless(drawn_run.items).value == 1.0
    asked = [replace(i, truth_answers={**i.truth_answers, "action": "repair"}) for i in drawn_run.items]
    assert needless(asked).value == 0.0
    assert needless([replace(i, truth_answers={}) for i in drawn_run.items]) is None
