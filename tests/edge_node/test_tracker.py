"""Tracks: the same thing keeps its number, another thing gets another, and a restart changes nothing."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.config import TrackerSettings
from edge_node.fakes import detection
from edge_node.tracker import Tracker
from fusion.types import Box2D

STEP = 100_000_000


def drum(x: float, y: float = 0.0, size: float = 100.0):
    return detection({"drum": 0.8, "cone": 0.1}, Box2D(x, y, x + size, y + size))


def cone(x: float, y: float = 0.0):
    return detection({"drum": 0.1, "cone": 0.8}, Box2D(x, y, x + 100, y + 100))


def ids(views) -> list[int]:
    return [view.track for view in views]


def test_a_moving_thing_keeps_its_track_by_its_velocity():
    tracker = Tracker(TrackerSettings(min_iou=0.5))
    tracker.update(0, [drum(0)])
    tracker.update(STEP, [drum(30)])
    # 60 px on: overlap with the last box is 0.25, with the predicted one 0.54
    tracker.update(2 * STEP, [drum(60)])
    (view,) = tracker.update(3 * STEP, [drum(120)])
    assert (view.track, view.onset_ns, view.hits) == (1, 0, 4)
    assert view.age_ns(3 * STEP) == 3 * STEP


def test_two_things_do_not_swap_when_their_order_does():
    tracker = Tracker(TrackerSettings())
    assert ids(tracker.update(0, [drum(0), drum(500)])) == [1, 2]
    assert ids(tracker.update(STEP, [drum(505), drum(5)])) == [2, 1]


def test_the_label_decides_between_equal_overlaps_but_may_flicker():
    tracker = Tracker(TrackerSettings())
    assert ids(tracker.update(0, [drum(0), cone(0)])) == [1, 2]
    assert ids(tracker.update(STEP, [cone(2), drum(2)])) == [2, 1]
    assert ids(tracker.update(2 * STEP, [drum(2)])) == [1]
    flicker = Tracker(TrackerSettings())
    flicker.update(0, [drum(0)])
    assert ids(flicker.update(STEP, [cone(3)])) == [1]


def test_a_thing_that_was_away_too_long_is_another_one():
    tracker = Tracker(TrackerSettings(max_age_s=1.0))
    tracker.update(0, [drum(0)])
    assert ids(tracker.update(10 * STEP, [drum(0)])) == [1]
    assert ids(tracker.update(21 * STEP, [drum(0)])) == [2]


def test_unrelated_pictures_share_no_track():
    tracker = Tracker(TrackerSettings(), enabled=False)
    assert ids(tracker.update(0, [drum(0)])) == [1]
    assert ids(tracker.update(STEP, [drum(0)])) == [2]


boxes = st.builds(drum, st.integers(0, 400).map(float), st.integers(0, 200).map(float), st.sampled_from([60.0, 100.0]))
frames = st.lists(st.lists(boxes, max_size=5), min_size=1, max_size=12)


@given(frames, st.data())
@settings(max_examples=60, deadline=None)
def test_one_track_a_detection_and_a_snapshot_goes_on_exactly(sequence, data):
    cut = data.draw(st.integers(0, len(sequence) - 1))
    whole, first = Tracker(TrackerSettings()), Tracker(TrackerSettings())
    expected = [whole.update(i * STEP, found) for i, found in enumerate(sequence)]
    for views in expected:
        assert len(set(ids(views))) == len(views)
    for i in range(cut):
        first.update(i * STEP, sequence[i])
    second = Tracker(TrackerSettings())
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert [second.update(i * STEP, sequence[i]) for i in range(cut, len(sequence))] == expected[cut:]


def test_a_snapshot_brings_no_number_back_that_was_given_since():
    earlier = Tracker(TrackerSettings())
    earlier.update(0, [drum(0)])
    state = json.loads(json.dumps(earlier.snapshot()))
    tracker = Tracker(TrackerSettings())
    tracker.count_from(8)  # the spool holds tracks up to 7, of another recording that was read in between
    tracker.restore(state)
    assert ids(tracker.update(STEP, [drum(0), drum(500)])) == [1, 8]
