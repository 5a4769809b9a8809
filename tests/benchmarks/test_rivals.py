"""The arithmetic behind the comparison of servers: schedules, books, percentiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_arrivals_are_a_poisson_process_of_the_rate(rivals):
    made = rivals.schedule.poisson(200.0, 50.0, 5, seed=1)
    assert len(made) == pytest.approx(10_000, rel=0.05)
    gaps = np.diff(made.due_s)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as an exponential's is
    assert np.bincount(made.device) == pytest.approx(np.full(5, 2_000), rel=0.1)


def test_a_hot_device_sends_its_share_and_the_others_alike(rivals):
    made = rivals.schedule.poisson(200.0, 50.0, 11, seed=2, hot_share=0.3)
    counts = np.bincount(made.device) / len(made)
    assert counts[0] == pytest.approx(0.3, abs=0.02)
    assert counts[1:] == pytest.approx(np.full(10, 0.07), abs=0.02)


def test_a_periodic_device_sends_at_even_distances(rivals):
    made = rivals.schedule.periodic(4.0, 5.0, 3, seed=3)
    for device in range(3):
        due = made.due_s[made.device == device]
        assert len(due) in {19, 20}
        assert np.diff(due) == pytest.approx(np.full(len(due) - 1, 0.25))


FATES = st.tuples(
    st.integers(0, 4),
    st.floats(0, 10),
    st.sampled_from(["answered", "expired", "refused", "failed", "silent"]),
    st.floats(0, 3),
)


@given(st.lists(FATES, max_size=60), st.none() | st.floats(0.1, 2))
def test_every_item_is_in_one_column(rivals, rows, deadline_s):
    books = rivals.books
    fates = [
        books.Fate(device, number, due, books.End(end), None if end == "silent" else due + took)
        for number, (device, due, end, took) in enumerate(rows)
    ]
    told = books.Books.of(fates, 10.0, deadline_s)
    assert told.adds_up
    assert told.in_time == sum(
        end == "answered" and (deadline_s is None or (due + took) - due <= deadline_s) for _, due, end, took in rows
    )
    assert told.goodput_s == pytest.approx(told.in_time / 10)


def test_latency_counts_from_when_an_item_was_due(rivals):
    books = rivals.books
    fates = [books.Fate(0, n, float(n), books.End.ANSWERED, n + 0.1 * n) for n in range(1, 101)]
    told = books.Books.of(fates, 100.0, deadline_s=5.0)
    assert (told.p50_ms, told.p99_ms) == (pytest.approx(5_000), pytest.approx(9_900))
    assert (told.in_time, told.late) == (50, 50)


@pytest.mark.parametrize(("lost", "wanted"), [(0, 10.0), (1, 10.0), (2, None)])
def test_who_got_no_answer_is_in_the_tail(rivals, lost, wanted):
    books = rivals.books
    fates = [books.Fate(0, n, 0.0, books.End.ANSWERED, 0.01) for n in range(100 - lost)]
    fates += [books.Fate(0, 100 - n, 0.0, books.End.SILENT) for n in range(lost)]
    told = books.Books.of(fates, 1.0)
    assert told.p99_ms == pytest.approx(10.0)
    assert told.p99_all_ms == (None if wanted is None else pytest.approx(wanted))


def test_a_starved_device_shows(rivals):
    books = rivals.books
    fates = [books.Fate(device, n, 0.0, books.End.ANSWERED, 0.1) for device in range(4) for n in range(10)]
    assert books.fairness(fates, None) == 1
    starved = [books.Fate(4, n, 0.0, books.End.EXPIRED, 0.1) for n in range(10)]
    assert books.fairness(fates + starved, None) == 0
