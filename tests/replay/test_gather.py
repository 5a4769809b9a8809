"""What an item is judged by: the truth of its own moment, where that says what is in the picture."""

from dataclasses import replace

import pytest

from edge_node.spool import Spool
from fusion.recording.truths import TruthIndex
from fusion.task import Task
from fusion.types import Box2D, Gap, ItemState, LedgerCounts, Truth, TruthObject
from replay.results.gather import SpoolRows, item_results, open_database
from replay.results.records import RecordingResults, RunResults, SampleResult
from replay.results.rivals import RivalBytes
from replay.results.summary import detector_map50, summarize

YARD = Task.load("yard")
TOLD, UNTOLD = 1_000_000_000, 2_000_000_000
DRUM = TruthObject(7, "drum", "leaking", Box2D(10, 10, 60, 60), None, False, "contain", 1.0)


class Rows:
    """A spool with one item on the same place at each of the times."""

    device, epoch = "d", "e"

    def __init__(self, *times):
        item = {
            "item": 1, "x1": 11.0, "y1": 9.0, "x2": 61.0, "y2": 60.0, "opinion": "", "verdict": "", "answered_ns": None,
            "decided_ns": 0, "track": 3, "label": "drum", "score": 0.9, "state": ItemState.PASSED.value, "reasons": "",
            "into_item": "", "note": "", "evidence_bytes": 0, "maps_bytes": 0, "tokens_bytes": 0, "crop_bytes": 0,
            "pixels_sent": 0, "scores": '{"class": {"drum": 0.9}, "condition": {}}', "scale": 1.0, "dx": 0.0, "dy": 0.0,
        }  # fmt: skip
        self._items = [{**item, "sequence": n, "time_ns": time} for n, time in enumerate(times, 1)]

    def items(self):
        return iter(self._items)

    def counts(self):
        return LedgerCounts(len(self._items), 0, {ItemState.PASSED: len(self._items)})


def spool(*times):
    return Rows(*times)


def judged(*truths, times=(TOLD, UNTOLD)):
    return [dict(item.truth_answers) for item in item_results(YARD, spool(*times), TruthIndex(truths))]


def test_a_moment_that_nothing_is_told_of_judges_nobody():
    first, second = judged(Truth(TOLD, (DRUM,)))
    assert first["condition"] == "leaking"
    assert second == {}


def test_a_moment_with_nothing_there_makes_an_item_a_false_alarm():
    elsewhere = replace(DRUM, box2d=Box2D(300, 10, 360, 60))
    first, second = judged(Truth(TOLD, (elsewhere,)), Truth(UNTOLD, ()))
    assert first["object"] == second["object"] == "nothing"
    assert judged(Truth(TOLD, ()))[0]["object"] == "nothing"


def test_a_truth_of_space_alone_judges_nobody():
    assert judged(Truth(TOLD, (replace(DRUM, box2d=None),))) == [{}, {}]
    assert judged(Truth(TOLD, (replace(DRUM, box2d=None), DRUM)))[0]["object"] == "drum"


def test_no_truth_judges_nobody():
    assert judged() == [{}, {}]


def test_reasons_of_gaps_are_counted_whatever_the_place(tmp_path):
    path = tmp_path / "spool.db"
    device = Spool.open(path, "d", "yard")
    for number in (4, 9):
        device.declare_gap(Gap(number, number + 1, f"no picture at position {number}"))
    device.close()
    with open_database(path) as db:
        assert SpoolRows.of(db).gap_reasons() == {"no picture": 4}


def test_items_without_reasons_or_answers_keep_both_apart():
    """An empty tuple of reasons and no answers at all are different things, however values are shared."""
    (item,) = item_results(YARD, spool(UNTOLD), TruthIndex([Truth(TOLD, (DRUM,))]))
    assert item.reasons == ()
    assert item.truth_answers == {}


def test_a_clock_that_was_set_back_takes_no_seconds_away(draw, drawn_run):
    steps = [0, 1, 2, -78, -77, -75]
    times = [80_000_000_000 + step * 1_000_000_000 for step in steps]
    samples = tuple(replace(s, time_ns=t) for s, t in zip(drawn_run.samples[:6], times, strict=True))
    run = draw.changed(drawn_run, samples=samples)
    assert run.recordings[0].seconds == 5.0
    assert summarize(run.task, run.recordings, RivalBytes())["seconds"] == 5.0
    assert draw.changed(drawn_run, samples=()).recordings[0].seconds == 0.0


@pytest.mark.parametrize(("label", "expected"), [("drum", 1.0), ("car", None)])
def test_a_detector_is_measured_where_the_truth_has_its_classes(draw, label, expected):
    rows = spool(TOLD, UNTOLD)
    thing = replace(DRUM, label=label)
    items = item_results(YARD, rows, TruthIndex([Truth(TOLD, (thing,))]))
    samples = tuple(
        SampleResult(n, n, time, 1.0, 1.0, 1.0, 1.0, {}, "", truths)
        for n, (time, truths) in enumerate([(TOLD, (thing,)), (UNTOLD, None)], 1)
    )
    one = RecordingResults("r", "r.mcap", samples, items, (), rows.counts(), None)
    assert detector_map50(YARD, [one]) == expected, "a moment that nothing is told of must not count against it"
    assert summarize(YARD, [one], RivalBytes())["detector_map50"] == expected
    assert RunResults(YARD, (one,), {}).cloud_ledger is None
