"""The energy book: joules are integrals over measured time, and work counts over the same time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.power import EnergyBook, Measure, Work

S = 10**9


def test_power_is_integrated_by_trapezoids():
    book = EnergyBook(0)
    for second, watts in enumerate((2.0, 4.0, 4.0)):
        book.add(second * S, Measure(watts), Work(samples=10 * second, reviews=second // 2))
    assert book.joules == pytest.approx(7.0)
    assert book.watts_mean == pytest.approx(3.5)
    assert book.joules_per_sample == pytest.approx(7 / 20)
    assert book.joules_per_review == pytest.approx(7.0)
    assert book.unmeasured_s(3 * S) == pytest.approx(1.0)


def test_counters_are_taken_as_they_count():
    book = EnergyBook(0)
    book.add(0, Measure(), Work())
    book.add(S, Measure(30.0, 30.0), Work(samples=3))
    book.add(3 * S, Measure(10.0, 20.0), Work(samples=5))
    assert (book.joules, book.samples) == (50.0, 5)
    assert book.watts_mean == pytest.approx(50 / 3)


def test_failures_and_gaps_are_unmeasured_time_and_their_work_does_not_count():
    book = EnergyBook(0)
    book.add(0, Measure(5.0), Work(samples=0))
    book.add(S, Measure(5.0), Work(samples=10))
    book.add(2 * S, None, Work(samples=20))
    book.add(3 * S, Measure(5.0), Work(samples=30))
    book.add(4 * S, Measure(5.0), Work(samples=40))
    book.add(60 * S, Measure(5.0), Work(samples=1000))
    book.add(61 * S, Measure(5.0, 7.0), Work(samples=1010))
    assert book.joules == pytest.approx(5 + 5 + 7)
    assert book.samples == 30
    assert book.unmeasured_s(61 * S) == pytest.approx(58.0)


def test_nothing_measured_is_none_not_zero():
    book = EnergyBook(7 * S)
    for second in range(3):
        book.add((8 + second) * S, None, Work(samples=second))
    assert book.watts_mean is book.joules_per_sample is book.joules_per_review is None
    assert book.unmeasured_s(11 * S) == 4.0


@given(st.lists(st.tuples(st.integers(1, 8 * S), st.one_of(st.none(), st.floats(0, 100))), max_size=50))
def test_measured_and_unmeasured_time_add_up_and_the_mean_is_between_the_readings(steps):
    book, now = EnergyBook(0), 0
    for past, watts in steps:
        now += past
        book.add(now, None if watts is None else Measure(watts), Work())
    assert book.measured_ns / 1e9 + book.unmeasured_s(now) == pytest.approx(now / 1e9)
    known = [watts for _, watts in steps if watts is not None]
    if book.watts_mean is not None:
        assert min(known) - 1e-6 <= book.watts_mean <= max(known) + 1e-6
