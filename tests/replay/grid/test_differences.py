"""Differences from the base: paired rightly, and called clear only where there is enough of them."""

from dataclasses import replace

import pytest

from fusion.types import ItemState
from replay.results.fates import defects
from replay.results.records import Fate, RunResults
from replay.whatif.grid.differences import differences, paired
from replay.whatif.grid.measures import row_of


def told(run):
    """The run with the truth in its samples, and its defects counted."""
    (one,) = run.recordings
    things = {
        sample.time_ns: tuple(i.truth for i in one.items if i.time_ns == sample.time_ns) for sample in one.samples
    }
    samples = tuple(replace(sample, truths=things[sample.time_ns]) for sample in one.samples)
    found = defects(run.task, one.name, samples, one.items, continuous=one.continuous)
    return RunResults(run.task, (replace(one, samples=samples, defects=found),), run.summary)


@pytest.fixture
def base(draw):
    return told(draw.run(draw.recording(60), every=1))


def with_items(run, change):
    (one,) = run.recordings
    items = tuple(change(item) for item in one.items)
    found = defects(run.task, one.name, one.samples, items, continuous=one.continuous)
    return RunResults(run.task, (replace(one, items=items, defects=found),), run.summary)


def unsent(item):
    return replace(item, state=ItemState.SHED, verdict={}, evidence_bytes=0)


def test_a_run_does_not_differ_from_itself(base):
    found = differences(base, base)
    assert set(found) == {"missed_share", "bytes_sent", "reviews", "verdict_accuracy"}
    for one in found.values():
        assert (one.interval.value, one.interval.low, one.interval.high, one.p) == (0, 0, 0, 1)
        assert not one.clear


def test_fewer_bytes_and_reviews_are_told_a_second(base):
    sent = [item for item in base.items if item.verdict]
    gone = {item.id for item in sent[::2]}
    found = differences(base, with_items(base, lambda item: unsent(item) if item.id in gone else item))
    assert found["reviews"].n == found["bytes_sent"].n == 6  # 60 samples at 10 Hz
    assert found["reviews"].unit == "second of recording"
    assert found["reviews"].interval.value == pytest.approx(-len(gone) / 6)
    lost = sum(item.evidence_bytes + item.crop_bytes for item in sent[::2])
    assert found["bytes_sent"].interval.value == pytest.approx(-lost / 6)
    assert found["bytes_sent"].clear
    assert found["reviews"].clear


def test_missed_defects_are_paired_one_by_one(base):
    found = [one for one in base.defects if one.fate is Fate.FOUND]
    lost = len(base.defects) - len(found)
    assert len(found) >= 2
    first = found[0]
    worse = with_items(base, lambda item: unsent(item) if str(item.truth.track) == first.name else item)
    one = differences(base, worse)["missed_share"]
    assert one.n == len(base.defects)
    assert one.interval.value == pytest.approx(1 / len(base.defects))
    assert not one.clear
    row = row_of(worse, "worse", "", "")
    assert (row.missed.part, row.missed.of) == (lost + 1, len(base.defects))
    assert row.fates[Fate.FOUND] == len(found) - 1


def test_three_of_three_changes_are_not_called_clear_though_the_bootstrap_does():
    base = dict.fromkeys(range(7), 0.0)
    one = paired(base, {n: float(n < 4) for n in range(7)}, {n: n for n in range(7)}, "defect")
    assert one.interval.excludes_zero
    assert not one.clear
    many = paired(base, {n: float(n < 6) for n in range(7)}, {n: n for n in range(7)}, "defect")
    assert many.clear


def test_what_belongs_together_counts_once():
    """A hundred items of one thing that all changed are one change."""
    base = dict.fromkeys(range(100), 0.0)
    one = paired(base, dict.fromkeys(base, 1.0), dict.fromkeys(base, "thing"), "item")
    assert one.interval.value == 1
    assert not one.clear


def test_verdicts_are_compared_on_items_that_both_had_reviewed(base):
    reviewed = [item for item in base.items if item.verdict]
    kept = {item.id for item in reviewed[:40]}

    def wrong(item):
        if item.id not in kept:
            return unsent(item)
        said = {**item.verdict, "object": replace(item.verdict["object"], option="nothing")}
        return replace(item, verdict=said)

    one = differences(base, with_items(base, wrong))["verdict_accuracy"]
    assert one.n == 40
    was = sum(all(item.verdict[s].option == t for s, t in item.truth_answers.items()) for item in reviewed[:40])
    assert one.interval.value == pytest.approx(-was / 40)


def test_items_are_paired_by_what_they_are_about_however_they_are_numbered(base):
    def moved(item):
        box = replace(item.box, x1=item.box.x1 + 1)
        return replace(item, id=f"{item.id}9", track=item.track + 50, box=box)

    one = differences(base, with_items(base, moved))["verdict_accuracy"]
    assert one.n == sum(bool(item.verdict) for item in base.items)


def test_unrelated_pictures_are_blocks_of_their_own(base):
    still = RunResults(base.task, (replace(base.recordings[0], continuous=False),), base.summary)
    found = differences(still, still)
    assert found["reviews"].n == 60
    assert found["reviews"].unit == "picture"


def test_runs_without_anything_in_common_have_no_difference():
    assert paired({1: 0.0}, {2: 0.0}, {1: 1}, "defect") is None
