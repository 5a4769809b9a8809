"""Clock offsets carry an error bar that really covers the truth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.clock import ManualClock, OffsetEstimate, SystemClock

NS = st.integers(0, 10**12)


@given(offset=st.integers(-(10**15), 10**15), there=NS, inside=NS, back=NS, sent=st.integers(0, 10**18))
def test_the_true_offset_lies_inside_the_error_bar(offset: int, there: int, inside: int, back: int, sent: int) -> None:
    received_peer = sent + there + offset
    sent_peer = received_peer + inside
    estimate = OffsetEstimate.from_exchange(sent, received_peer, sent_peer, sent + there + inside + back)
    assert abs(estimate.offset_ns - offset) <= estimate.error_ns + 1


def test_a_manual_clock_moves_only_forward() -> None:
    clock = ManualClock(5)
    clock.advance(10)
    assert clock.monotonic_ns() == clock.wall_ns() == 15
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_the_system_clock_is_monotonic() -> None:
    clock = SystemClock()
    assert clock.monotonic_ns() <= clock.monotonic_ns()
    assert clock.wall_ns() > 1_600_000_000_000_000_000
