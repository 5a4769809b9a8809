"""What the service is told of a device's pace: also of one that makes more samples than are kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edge_node.power import Power
from edge_node.spool import Resume, SampleRecord, Timing
from edge_node.vitals import Vitals
from fusion.clock import ManualClock

SPOOL = SimpleNamespace(waiting=lambda: 0, oldest_wait_s=lambda: None, outbox_bytes=0)


@pytest.mark.parametrize("rate_hz", [1, 10, 60, 68, 69, 200, 1000])
def test_the_rate_told_is_the_rate_there_was(rate_hz):
    clock = ManualClock(10**12)
    vitals = Vitals(clock, Power.off(), lambda: 0)
    for number in range(90 * rate_hz):
        clock.advance(10**9 // rate_hz)
        vitals.observe(SampleRecord(number + 1, 0, {}, Resume(1, 0), timing=Timing(edge=7_000_000)))
    told = vitals.status(SPOOL)
    assert told.samples_per_s == pytest.approx(rate_hz, rel=0.02)
    assert (told.latency_p50_ms, told.latency_p99_ms) == (7, 7)
    clock.advance(59 * 10**9)
    assert vitals.status(SPOOL).samples_per_s < max(2, rate_hz / 10)
