"""The governor: what it does and, by properties, what it never does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.power import Cause, Governor, Smoothed
from edge_node.settings.power import GearSettings, PowerSettings

S = 10**9
GEARS = tuple(GearSettings(rate_hz=rate) for rate in (0.0, 5.0, 2.0))


def governor(**more) -> Governor:
    settings = {"budget_watts": 10.0, "react_s": 2.0, "recover_s": 10.0, "release": 0.8, "gears": GEARS, **more}
    made = Governor.of(PowerSettings(**settings))
    assert made
    return made


def drive(made: Governor, *spans: tuple[float, float | None, float | None]) -> list[tuple[float, int]]:
    """Half-second steps of (seconds, watts, celsius); when the gear changed, and to what."""
    changes, now, before = [], 0, 0
    for seconds, watts, celsius in spans:
        for _ in range(round(2 * seconds)):
            gear = made.update(now, watts, celsius)
            if gear != before:
                changes.append((now / S, gear))
            now, before = now + S // 2, gear
    return changes


def test_without_a_limit_there_is_no_governor():
    assert Governor.of(PowerSettings()) is None
    assert Governor.of(PowerSettings(gears=GEARS)) is None


def test_it_falls_after_react_and_rises_after_recover():
    assert drive(governor(), (10, 12.0, None), (30, 7.0, None)) == [(2, 1), (4, 2), (20, 1), (30, 0)]


def test_a_short_excess_and_the_band_between_change_nothing():
    assert drive(governor(), (1.5, 50.0, None), (30, 9.9, None)) == []
    assert drive(governor(), (3, 12.0, None), (100, 8.1, None)) == [(2, 1)]


def test_heat_is_a_limit_of_its_own():
    hot = governor(limit_c=85.0)
    assert drive(hot, (3, 5.0, 90.0)) == [(2, 1)]
    assert hot.cause is Cause.HEAT
    cool = governor(budget_watts=0.0, limit_c=85.0)
    assert drive(cool, (3, None, 86.0), (30, None, 60.0)) == [(2, 1), (13, 0)]
    assert cool.cause is Cause.NONE


def test_up_only_when_everything_limited_is_low():
    made = governor(limit_c=85.0)
    assert drive(made, (2.5, 12.0, 50.0), (60, 5.0, 84.0)) == [(2, 1)]
    assert made.cause is Cause.POWER


def test_what_is_not_known_holds_the_gear():
    assert drive(governor(), (2.5, 12.0, None), (60, None, None)) == [(2, 1)]
    assert drive(governor(), (60, None, None)) == []
    assert drive(governor(), (1, 12.0, None), (5, None, None), (1, 12.0, None)) == [(6, 1)]


readings = st.lists(
    st.tuples(
        st.integers(1, 3 * S),
        st.one_of(st.none(), st.floats(0, 30)),
        st.one_of(st.none(), st.floats(0, 120)),
    ),
    max_size=200,
)
settings = st.fixed_dictionaries(
    {
        "react_s": st.floats(0.1, 5),
        "recover_s": st.floats(0.1, 60),
        "release": st.floats(0.1, 0.99),
        "limit_c": st.sampled_from([0.0, 80.0]),
        "gears": st.integers(2, 5).map(lambda n: (GearSettings(),) * n),
    }
)


@given(settings, readings)
def test_no_two_changes_are_closer_than_their_dwell_times(chosen, steps):
    made, now, changes = governor(**chosen), 0, []
    for past, watts, celsius in steps:
        now += past
        before = made.gear
        gear = made.update(now, watts, celsius)
        over = (watts is not None and watts > 10.0) or (bool(chosen["limit_c"]) and (celsius or 0) > 80.0)
        assert 0 <= gear < len(chosen["gears"])
        assert abs(gear - before) <= 1
        assert gear <= before or over  # it never falls without an excess to show
        assert (made.cause is Cause.NONE) == (gear == 0)
        if gear != before:
            changes.append((now, gear - before))
    for (first, _), (second, by) in itertools.pairwise(changes):
        dwell = chosen["react_s"] if by > 0 else chosen["recover_s"]
        assert second - first >= round(dwell * S)


@given(settings, readings, st.floats(10.01, 1000))
def test_sustained_excess_reaches_the_lowest_gear_and_calm_the_highest(chosen, steps, excess):
    made, now = governor(**chosen), 0
    for past, watts, celsius in steps:
        now += past
        made.update(now, watts, celsius)
    lowest = len(chosen["gears"]) - 1
    for _ in range(lowest + 1):
        made.update(now := now + 1, excess, 20.0)
        made.update(now := now + round(chosen["react_s"] * S), excess, 20.0)
    assert made.gear == lowest
    for _ in range(lowest + 1):
        made.update(now := now + 1, 0.5, 5.0)
        made.update(now := now + round(chosen["recover_s"] * S), 0.5, 5.0)
    assert made.gear == 0


@given(settings, readings)
def test_the_same_readings_give_the_same_gears(chosen, steps):
    one, other, now = governor(**chosen), governor(**chosen), 0
    for past, watts, celsius in steps:
        now += past
        assert one.update(now, watts, celsius) == other.update(now, watts, celsius)
        assert (one.gear, one.cause) == (other.gear, other.cause)


def test_bursts_count_by_their_mean():
    smoothed = Smoothed(2.0)
    means = [smoothed.add(step * S // 4, 15.0 if step % 2 else 5.0) for step in range(200)]
    assert max(means[50:]) < 10.8
    assert min(means[50:]) > 9.2
    assert smoothed.add(51 * S, None) is None
    assert smoothed.add(52 * S, 3.0) == 3.0


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"budget_watts": 5.0}, "a limit needs at least two"),
        ({"limit_c": 80.0, "gears": ({"rate_hz": 0},)}, "a limit needs at least two"),
        ({"gears": ({"rate_hz": 0.2},)}, "give 0 for no limit, or at least 0.5"),
        ({"source": "sun"}, "give 'auto', 'off', or ina3221"),
        ({"source": "rapl:"}, "give 'auto', 'off', or ina3221"),
        ({"release": 1.0}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given_, told):
    with pytest.raises(ValueError, match=told):
        PowerSettings(**given_)
