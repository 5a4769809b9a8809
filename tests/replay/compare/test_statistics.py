"""Differences of metrics: what is chance and what is not, in the whole and in parts."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.evaluation.bootstrap import resampled, two_sided
from fusion.evaluation.corrections import benjamini_hochberg, holm
from fusion.types import ItemState
from replay.compare.matching import match
from replay.compare.metrics import MISSED, NAMES, calibration_error, is_metric, item_metrics
from replay.compare.statistics import differences
from replay.compare.tolerances import MatchingSettings, MetricTolerances
from replay.results.answers import calibration
from replay.results.records import DefectResult, Fate, RunResults

P_VALUES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=1, max_size=12).map(np.array)


@pytest.fixture(scope="module")
def many(draw):
    """A run of ninety tracks, each in three moments, a third of the items reviewed."""
    run = draw.run(draw.recording(48))
    items = [replace(item, track=(item.sequence - 1) // 3 * 6 + item.track, recording="drawn") for item in run.items]
    return RunResults(run.task, (replace(run.recordings[0], items=tuple(items)),), {})


def changed(run, change):
    return RunResults(run.task, (replace(run.recordings[0], items=tuple(map(change, run.items))),), {})


def told(before, after, **settings):
    tolerances = MetricTolerances(draws=500, **settings)
    return differences(before.task, match(before, after, MatchingSettings()), tolerances)


def whole(found):
    return {one.metric: one for one in found if not one.slice.by}


def test_a_run_is_no_different_from_itself(many):
    found = told(many, many)
    assert found
    assert all(one.interval.value == one.interval.low == one.interval.high == 0 for one in found)
    assert not any(one.real or one.worse for one in found)
    assert all(one.p in (None, 1.0) for one in found)


def test_every_metric_has_a_name_that_tolerances_know(many):
    assert {one.name for one in item_metrics(many.task)} | {MISSED} >= set(NAMES)
    assert all(is_metric(one.name) for one in item_metrics(many.task))
    assert not is_metric("verdict")


def test_what_a_device_gets_wrong_everywhere_is_no_chance(many):
    worse = changed(many, lambda item: replace(item, device_answers={**item.device_answers, "object": "nothing"}))
    found = whole(told(many, worse))
    assert {name for name, one in found.items() if one.real} == {"device_accuracy"}
    assert found["device_accuracy"].worse
    assert found["device_accuracy"].after == 0
    better = whole(told(worse, many))["device_accuracy"]
    assert better.real
    assert not better.worse
    allowed = whole(told(many, worse, allowed={"device_accuracy": 1.0}))["device_accuracy"]
    assert allowed.real
    assert not allowed.worse
    assert "device_accuracy" not in whole(told(many, worse, ignore=("device_accuracy",)))


def test_one_track_among_many_is_chance(many):
    odd = many.items[0].track

    def change(item):
        return replace(item, device_answers={**item.device_answers, "object": "nothing"}) if item.track == odd else item

    found = whole(told(many, changed(many, change)))["device_accuracy"]
    assert found.interval.value < 0
    assert not found.real


def test_what_goes_wrong_in_one_class_is_told_of_that_class(many):
    def change(item):
        given = {**item.detector_answers, "object": "nothing"}
        return replace(item, detector_answers=given) if item.label == "drum" else item

    real = [one for one in told(many, changed(many, change)) if one.real and one.slice.by == "class"]
    assert [(one.metric, one.slice.value) for one in real] == [("detector_accuracy", "drum")]


def test_parts_are_those_of_the_first_run(many):
    """Otherwise an item that is called something else would leave one part and make both look different."""
    renamed = changed(many, lambda item: replace(item, label="crate"))
    parts = {one.slice.value for one in told(many, renamed) if one.slice.by == "class"}
    assert parts == {item.label for item in many.items}


def test_fewer_than_a_few_tracks_are_shown_and_not_judged(draw):
    run = draw.run(draw.recording(3))
    found = [one for one in told(run, run, least_units=5) if one.slice.by == "class"]
    assert found
    assert all(one.p is None and not one.real for one in found)


def test_defects_are_drawn_as_defects(many):
    fates = [DefectResult(str(n), "drawn", "drum", "dented", n, 3, Fate.FOUND) for n in range(30)]
    missed = [replace(one, fate=Fate.UNSEEN) if n % 2 else one for n, one in enumerate(fates)]
    first, second = (
        RunResults(many.task, (replace(many.recordings[0], defects=tuple(one)),), {}) for one in (fates, missed)
    )
    found = whole(told(first, second))["defects_missed_share"]
    assert (found.before, found.after, found.units) == (0.0, 0.5, 30)
    assert found.worse


@pytest.mark.parametrize("turned", [0, 1, 3, 12])
def test_defects_that_fare_alike_in_both_runs_say_nothing_of_chance(many, turned):
    """Of hundreds that are the same no p-value may draw strength; those that differ could all do so by chance."""
    fates = [DefectResult(str(n), "drawn", "drum", "dented", n, 3, Fate.FOUND) for n in range(400)]
    missed = [replace(one, fate=Fate.UNSEEN) if n < turned else one for n, one in enumerate(fates)]
    first, second = (
        RunResults(many.task, (replace(many.recordings[0], defects=tuple(one)),), {}) for one in (fates, missed)
    )
    found = whole(told(first, second))["defects_missed_share"]
    assert found.units == 400
    assert found.p >= min(1.0, 2.0 ** (1 - turned))
    assert found.worse == (turned == 12)


def test_memory_grows_with_what_was_run_and_not_with_its_square(many):
    items = many.items[:60]
    recordings = tuple(
        replace(many.recordings[0], name=f"r{n}", items=tuple(replace(one, recording=f"r{n}") for one in items))
        for n in range(200)
    )
    run = RunResults(many.task, recordings, {})
    matching = match(run, run, MatchingSettings())
    tracemalloc.start()
    found = differences(run.task, matching, MetricTolerances(draws=200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({one.slice.value for one in found if one.slice.by == "recording"}) == 200
    assert peak < 150e6


def test_less_sent_is_told_of_bytes_and_reviews(many):
    def change(item):
        return replace(item, state=ItemState.PASSED, verdict={}, evidence_bytes=0)

    found = whole(told(many, changed(many, change)))
    assert found["reviewed_share"].real
    assert found["load_bytes"].real
    assert not found["load_bytes"].worse
    assert "evidence_bytes" not in found


def test_the_calibration_error_is_the_reports(many):
    mine = whole(told(many, many))["calibration_error"].before
    assert mine == pytest.approx(calibration(many.items).ece)


def test_a_bin_that_is_as_sure_as_right_has_no_error():
    sums = np.zeros((1, 30))
    sums[0, 27:] = 10, 9.5, 9.5
    assert calibration_error(sums)[0] == 0
    sums[0, 29] = 4.5
    assert calibration_error(sums)[0] == pytest.approx(0.5)
    assert np.isnan(calibration_error(np.zeros((1, 30)))[0])


@given(P_VALUES)
def test_corrections_only_ever_raise_and_keep_the_order(p):
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert (adjusted >= p - 1e-12).all()
        assert (adjusted <= 1).all()
        order = np.argsort(p, kind="stable")
        assert (np.diff(adjusted[order]) >= -1e-12).all()
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()


def test_corrections_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert len(holm(np.zeros(0))) == len(benjamini_hochberg(np.zeros(0))) == 0


def test_a_resample_draws_as_many_as_there_are():
    rows = np.concatenate(list(resampled(7, draws=300, together=128)))
    assert rows.shape == (300, 7)
    assert (rows.sum(1) == 7).all()
    again = np.concatenate(list(resampled(7, draws=300, together=128)))
    assert (rows == again).all()


def test_how_likely_a_difference_is_by_chance():
    rng = np.random.default_rng(0)
    assert two_sided(np.zeros(99), 9) == 1.0
    assert two_sided(rng.normal(0, 1, 4000), 99) > 0.9
    assert two_sided(rng.normal(2, 1, 4000), 99) == pytest.approx(0.045, rel=0.3)
    assert two_sided(rng.normal(6, 1, 4000), 99) == pytest.approx(2e-9, rel=3)
    assert two_sided(np.ones(99), 4) == 0.125
    assert two_sided(np.full(9, np.nan), 9) == 1.0
