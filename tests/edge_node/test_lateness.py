"""How far behind a pace a device was, and what a live sensor would have lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.lateness import Lags, Lateness

MS = 1_000_000


def played(work_ms, *, period_ms=100, source_ms=0, limit_s=0.5, count=100):
    """A device that works `work_ms` on each frame of a recording that waits for it."""
    lateness, free = Lateness(limit_s), 0
    for number in range(count):
        due = (number + 1) * period_ms * MS
        taken = max(due, free)
        free = taken + work_ms * MS
        lateness.taken(due, taken - due, source_ms * MS, work_ms * MS, frame=True)
    return lateness


def test_a_device_that_keeps_up_is_never_behind_and_loses_nothing():
    told = played(80).told()
    assert (told["lag_ms_p50"], told["lag_ms_p99"], told["lag_ms_max"]) == (0, 0, 0)
    assert (told["frames"], told["behind"], told["would_drop"]) == (100, 0, 0)


def test_one_that_is_half_as_fast_falls_behind_ever_more_but_would_lose_only_every_other_frame():
    lateness = played(200)
    assert lateness.lags.most_ns == 99 * 100 * MS
    assert lateness.behind == 94
    assert 45 <= lateness.would_drop <= 50


def test_what_reading_takes_counts_as_well():
    assert played(10, source_ms=99).would_drop == 0
    assert played(10, source_ms=120).would_drop > 0


def test_work_after_a_frame_that_was_dropped_is_dropped_with_it():
    """The synchronizer works on a frame when the next sensor's reading comes."""
    lateness = Lateness(0.0)
    for number in range(10):
        due = (number + 1) * 100 * MS
        lateness.taken(due, 0, 0, 0, frame=True)
        lateness.taken(due, 0, 0, 150 * MS, frame=False)
    assert lateness.would_drop == 5


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=200), st.integers(1, 100))
def test_percentiles_are_within_two_per_cent_in_little_room(lags_ns, wanted):
    lags = Lags()
    for lag in lags_ns:
        lags.add(lag)
    true = float(np.percentile(lags_ns, wanted, method="inverted_cdf")) / 1e6
    assert lags.percentile_ms(wanted) == pytest.approx(true, rel=0.02, abs=0.11)
    assert lags.most_ns == max(lags_ns)
    assert len(lags._classes) < 1200


def test_nothing_has_no_percentile():
    assert Lateness().told()["lag_ms_p50"] is None
