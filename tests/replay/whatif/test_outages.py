"""When something works: checked against counting every tick."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from replay.whatif.outages import Outages
from replay.whatif.world import OutageSettings

TICK = 10**8
HORIZON = 200
stretches = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda pair: (pair[0] / 10, (pair[0] + pair[1]) / 10)),
    max_size=4,
)
repeats = st.one_of(st.just((0, 0)), st.integers(2, 15).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))


def outages(listed, every, out):
    return Outages(OutageSettings(outages=tuple(listed), every_s=every / 10, for_s=out / 10))


def down(listed, every, out, tick):
    """Whether it is out from `tick` to the next."""
    inside = any(round(begin * 10) <= tick < round(end * 10) for begin, end in listed)
    return inside or bool(every and tick % every >= every - out)


@given(stretches, repeats, st.integers(0, 80))
def test_is_out_as_the_settings_say(listed, repeat, tick):
    assert outages(listed, *repeat).is_out(tick * TICK) == down(listed, *repeat, tick)


@settings(max_examples=200)
@given(stretches, repeats, st.integers(0, 60), st.integers(0, 30))
def test_work_is_done_in_working_time_alone(listed, repeat, begin, work):
    """And ends as early as it can."""
    found = outages(listed, *repeat)
    tick, left = begin, work
    while left or (work == 0 and down(listed, *repeat, tick)):
        left -= not down(listed, *repeat, tick)
        tick += 1
    assert found.finish_ns(begin * TICK, work * TICK) == tick * TICK
    assert found.worked_ns(begin * TICK, tick * TICK) == work * TICK


def test_none_are_none():
    found = outages([], 0, 0)
    assert found.next(5) is None
    assert found.finish_ns(7, 5) == 12
    assert found.worked_ns(3, 9) == 6
