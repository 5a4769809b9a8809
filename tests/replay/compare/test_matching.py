"""Which recordings, moments and items of two runs are taken for the same."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.types import Box2D
from replay.compare.lag import lag
from replay.compare.matching import align, match, match_recording, pair_recordings
from replay.compare.tolerances import MatchingSettings
from replay.results.records import RunResults

SETTINGS = MatchingSettings()
MS = 1_000_000


def with_items(run, items):
    return RunResults(run.task, (replace(run.recordings[0], items=tuple(items)),), {})


def only(run):
    return run.recordings[0]


def moved(item, dx):
    box = item.box
    return replace(item, box=Box2D(box.x1 + dx, box.y1, box.x2 + dx, box.y2))


@given(st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(random):
    run = RUN
    shuffled = list(run.items)
    random.shuffle(shuffled)
    found = match_recording(only(run), only(with_items(run, shuffled)), SETTINGS)
    assert {(pair.before.id, pair.after.id) for pair in found.pairs} == {(item.id, item.id) for item in run.items}
    assert found.gone == found.new == ()


@given(st.sets(st.integers(0, 71), max_size=40), st.sets(st.integers(0, 71), max_size=40))
def test_every_item_is_in_a_pair_or_gone_or_new(first, second):
    run = RUN
    before = with_items(run, [item for n, item in enumerate(run.items) if n not in first])
    after = with_items(run, [item for n, item in enumerate(run.items) if n not in second])
    found = match_recording(only(before), only(after), SETTINGS)
    assert len(found.pairs) + len(found.gone) == len(before.items)
    assert len(found.pairs) + len(found.new) == len(after.items)
    assert {item.id for item in found.gone} <= {run.items[n].id for n in second}
    assert all(pair.before.time_ns == pair.after.time_ns for pair in found.pairs)


def test_ids_and_places_in_the_list_mean_nothing(drawn_run):
    other = [replace(item, id=f"x/y/{n}#1", sequence=item.sequence + 7) for n, item in enumerate(drawn_run.items[::-1])]
    found = match_recording(only(drawn_run), only(with_items(drawn_run, other)), SETTINGS)
    assert len(found.pairs) == len(drawn_run.items)
    assert all(pair.before.box == pair.after.box and pair.before.track == pair.after.track for pair in found.pairs)


def test_boxes_apart_are_two_items_unless_their_tracks_correspond(drawn_run):
    item = drawn_run.items[0]
    wide = 0.6 * (item.box.x2 - item.box.x1)
    first = with_items(drawn_run, [item])
    assert not match_recording(only(first), only(with_items(drawn_run, [moved(item, wide)])), SETTINGS).pairs
    later = [one for one in drawn_run.items if one.track == item.track and one.time_ns > item.time_ns]
    first = with_items(drawn_run, [item, *later])
    second = with_items(drawn_run, [replace(moved(item, wide), track=99), *(replace(one, track=99) for one in later)])
    found = match_recording(only(first), only(second), SETTINGS)
    assert len(found.pairs) == 1 + len(later)
    assert found.tracks == {item.track: 99}


def test_of_two_boxes_in_one_place_the_one_of_the_same_class_is_it(drawn_run):
    item = drawn_run.items[0]
    twin = replace(item, id="x/y/1#9", label="person", track=50)
    found = match_recording(only(with_items(drawn_run, [item])), only(with_items(drawn_run, [twin, item])), SETTINGS)
    assert [pair.after.id for pair in found.pairs] == [item.id]
    assert [one.id for one in found.new] == [twin.id]


@given(st.sets(st.integers(0, 60), max_size=20), st.sets(st.integers(0, 60), max_size=20), st.integers(0, 5))
def test_moments_are_paired_once_and_near(first, second, within):
    pairs = align(sorted(first), sorted(second), within)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(abs(a - b) <= within for a, b in pairs)
    assert first & second <= {a for a, b in pairs if a == b}
    if not within:
        assert len(pairs) == len(first & second)


def test_moments_a_little_apart_are_one(drawn_run):
    later = [replace(item, time_ns=item.time_ns + 30 * MS) for item in drawn_run.items]
    assert len(match_recording(only(drawn_run), only(with_items(drawn_run, later)), SETTINGS).pairs) == len(later)
    strict = MatchingSettings(within_ms=10)
    assert not match_recording(only(drawn_run), only(with_items(drawn_run, later)), strict).pairs


def named(run, name, content="0123456789abcdef"):
    items = tuple(replace(item, id=f"cart/{content}/{n}#1") for n, item in enumerate(run.items))
    return replace(only(run), name=name, items=items)


def test_recordings_are_paired_by_name_then_by_content(drawn_run):
    a, b, c = named(drawn_run, "a"), named(drawn_run, "b", "1" * 16), named(drawn_run, "c", "2" * 16)
    renamed, other = replace(b, name="z"), named(drawn_run, "d", "3" * 16)
    pairs, gone, new = pair_recordings([a, b, c], [other, renamed, a])
    assert [(one.name, two.name) for one, two in pairs] == [("a", "a"), ("b", "z")]
    assert [one.name for one in gone] == ["c"]
    assert [one.name for one in new] == ["d"]


def test_two_runs_of_one_recording_each_are_compared_whatever_their_names(drawn_run):
    found = match(drawn_run, RunResults(drawn_run.task, (named(drawn_run, "other", "9" * 16),), {}), SETTINGS)
    assert len(found.pairs) == len(drawn_run.items)
    assert not found.recordings[0].same_content


@pytest.mark.parametrize("jitter_ns", [0, 1_000, 5 * MS])
@pytest.mark.parametrize("samples", [1, 2, -3])
def test_pictures_with_a_wrong_time_are_told_by_their_boxes(draw, samples, jitter_ns):
    run = draw.run(draw.recording(24))
    walking = [moved(item, 8 * (item.sequence % 5)) for item in run.items]
    off = [jitter_ns * ((7 * n) % 5 - 2) // 2 for n in range(25)]
    before = with_items(run, [replace(item, time_ns=item.time_ns + off[item.sequence]) for item in walking])
    late = [replace(item, time_ns=item.time_ns + samples * 100 * MS + off[-item.sequence]) for item in walking]
    found = lag(match_recording(only(before), only(with_items(run, late)), SETTINGS))
    assert found is not None
    assert found.ms == pytest.approx(100 * samples, abs=2 * jitter_ns / MS)
    assert found.share == 1.0
    assert lag(match_recording(only(before), only(before), SETTINGS)) is None


def test_a_few_boxes_that_are_like_earlier_ones_tell_no_wrong_time(draw):
    run = draw.run(draw.recording(24))
    lone = [moved(item, 8 * item.sequence) for item in run.items if item.track == 1][:6]
    late = [replace(item, time_ns=item.time_ns + 100 * MS) for item in lone]
    assert lag(match_recording(only(with_items(run, lone)), only(with_items(run, late)), SETTINGS)) is None


@pytest.fixture(autouse=True, scope="module")
def _run(draw):
    global RUN  # noqa: PLW0603
    RUN = draw.run(draw.recording())
