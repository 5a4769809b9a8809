"""What a run tells of itself: rates and what is left, and how much of it goes into a log."""

import io

import pytest

from fusion.clock import ManualClock
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.types import Modality
from replay.running.workers.progress import Bars, Lines, Silent, Tally, clock
from replay.running.workers.watch import Progress, Watch


def test_the_rate_is_recorded_time_by_passed_time() -> None:
    tally = Tally(2, 100.0)
    tally.told(Progress("a", 5.0, 20.0))
    assert tally.rate(110.0) == 0.5
    assert tally.total_s == 40.0  # the other is taken to be as long
    assert tally.eta_s(110.0) == 70.0
    tally.end("a", failed=False)
    tally.told(Progress("b", 0.0, 10.0))
    assert (tally.done_s, tally.total_s) == (20.0, 30.0)
    assert tally.eta_s(120.0) == 10.0


def test_a_failed_recording_has_nothing_left() -> None:
    tally = Tally(2, 0.0)
    tally.told(Progress("a", 5.0, 20.0))
    tally.end("a", failed=True)
    tally.end("b", failed=True)
    assert tally.done_s == tally.total_s == 5.0
    assert "2 failed" in tally.line(10.0)
    assert "left" not in tally.line(10.0)


def test_nothing_is_promised_before_anything_is_known() -> None:
    tally = Tally(3, 0.0)
    assert tally.eta_s(5.0) is None
    assert tally.line(5.0) == "0/3 recordings, 0 of 0 s, 0.0 x real time"


def test_a_log_gets_a_line_in_ten_seconds_and_the_last_one() -> None:
    now, stream = [0.0], io.StringIO()
    lines = Lines(2, stream, lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        lines.told(0, Progress("a", second / 2, 30.0))
    assert len(stream.getvalue().splitlines()) == 2
    lines.ended("a")
    lines.ended("b", "b.mcap: cut off")
    told = stream.getvalue().splitlines()[2:]
    assert told[0] == "b: b.mcap: cut off"
    assert told[1].startswith("2/2 recordings, 1 failed")
    assert len(told) == 2


def test_quiet_tells_failures_alone() -> None:
    stream = io.StringIO()
    board = Silent(2, stream)
    board.told(0, Progress("a", 1.0, 2.0))
    board.remark("1 of 3 recordings are done already")
    board.ended("a")
    board.ended("b", "gone")
    assert stream.getvalue() == "b: gone\n"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05")])
def test_times_read_as_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_watch_tells_a_few_times_a_second_and_never_beyond_the_end() -> None:
    sensor = SensorInfo(Modality.CAMERA, "front", 10, 5_000_000_000, 9_000_000_000, 10.0, ())
    info = RecordingInfo(None, "drawn", "0" * 64, 0, "yard", {"front": sensor}, None, 0, {})
    told, watch = [], None
    watch = Watch("a", told.append, ManualClock())
    watch.begin(info)
    for step in range(60):
        watch.at(5_000_000_000 + step * 100_000_000, step * 10_000_000)
    watch.reviewing()
    assert [one.done_s for one in told] == pytest.approx([0.0, 2.5, 4.0, 4.0])
    assert {one.total_s for one in told} == {4.0}
    assert told[-1].doing == "reviewing"


def test_a_terminal_shows_all_of_the_run_and_each_worker() -> None:
    now, stream = [0.0], io.StringIO()
    bars = Bars(2, stream, lambda: now[0])
    bars.told(0, Progress("a", 0.0, 0.0, "starting"))
    now[0] = 10.0
    bars.told(0, Progress("a", 5.0, 20.0))
    bars.told(1, Progress("b", 5.0, 20.0, "reviewing"))
    bars.idle(1)
    bars.ended("b", "[b.mcap] cut off")
    bars.close()
    told = stream.getvalue()
    assert "b: [b.mcap] cut off" in told
    assert "1/2 recordings, 1 failed, 10 of 25 s, 1.0 x real time, 0:00:15 left" in told.replace("\n", " ")
