"""Wrong stamps in the log: at once, then no more than once a minute, and all of them in the books."""

from __future__ import annotations

import pytest

from edge_node.stamps import QUIET_S, StampBook
from fusion.clock import ManualClock
from fusion.synchronization import StampFault

S = 10**9


@pytest.mark.parametrize(
    ("fault", "by_ns", "told"),
    [
        (StampFault.DUPLICATE, 0, "a reading has the stamp of an earlier one"),
        (StampFault.OUT_OF_ORDER, -S // 4, "a reading is stamped 0.250 s before the sensor's newest"),
        (
            StampFault.CLOCK_SET,
            3600 * S,
            "its stamps step by +3600.000 s: its clock was set, or nothing came for so long",
        ),
        (StampFault.OUT_OF_WINDOW, -S, "a reading is stamped 1.000 s before the frames it came with, and joins none"),
        (StampFault.OUT_OF_WINDOW, S, "a reading is stamped 1.000 s after the frames it came with, and joins none"),
    ],
)
def test_a_fault_is_one_line_that_names_sensor_and_kind(caplog, fault, by_ns, told):
    StampBook(ManualClock(), continuous=True).counts.add("roof", fault, by_ns)
    assert caplog.messages == [f"sensor roof: {fault.value}: {told}"]


def test_the_same_fault_is_counted_but_not_told_again_within_a_minute(caplog):
    clock = ManualClock()
    book = StampBook(clock, continuous=True)
    for _ in range(100):
        book.counts.add("roof", StampFault.DUPLICATE, 0)
    book.counts.add("mic", StampFault.DUPLICATE, 0)
    assert [message.split(":")[0] for message in caplog.messages] == ["sensor roof", "sensor mic"]
    clock.advance(round(QUIET_S * S))
    book.counts.add("roof", StampFault.DUPLICATE, 0)
    assert caplog.messages[-1].endswith("; 101 of them so far")
    assert book.told() == {"roof": {"duplicate": 101}, "mic": {"duplicate": 1}}
    assert book.summary() == {
        "duplicate": 102, "out_of_order": 0, "clock_set": 0, "out_of_window": 0, "unknown_sensor": 0, "waited_out": 0,
        "by_sensor": book.told(),
    }  # fmt: skip


def test_frames_that_do_not_follow_each_other_have_no_clock_that_was_set(caplog):
    book = StampBook(ManualClock(), continuous=False)
    book.counts.add("line", StampFault.CLOCK_SET, 60 * S)
    assert caplog.messages == []
    assert book.told() == {"line": {"clock_set": 1}}
