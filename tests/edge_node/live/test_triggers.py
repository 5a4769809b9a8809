"""Triggers: each takes one frame of the reference sensor or becomes a gap, and no frame is taken twice."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import SourceSettings
from edge_node.live import LiveSource
from edge_node.live.asked import MAX_WAITING
from edge_node.live.handover import HandOver
from edge_node.live.health import SensorHealth
from edge_node.live.triggers import trigger_class
from fusion.clock import ManualClock
from fusion.errors import ConfigError, SensorError
from fusion.task import Task
from fusion.types import Modality, Reading

from .conftest import eye, picture, sweep, until

MS = 1_000_000
BELL = {"url": "fake://bell", "backoff_first_s": 0.01, "backoff_max_s": 0.02}


@dataclass
class Line:
    """A hand-over whose clock, frames and triggers a test plays, times in milliseconds."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(MS))
    within_ms: int = 50

    def __post_init__(self) -> None:
        self.healths = {name: SensorHealth(name, 1e9, self.clock) for name in ("front", "trigger")}
        self.handover = HandOver(self.healths, self.clock)
        self.handover.reference = "front"
        self.frames: list[int] = []
        self.gaps: list[tuple[int, str]] = []

    def frame(self, capture_ms: int) -> None:
        reading = Reading("front", Modality.CAMERA, capture_ms * MS, picture())
        self.handover.put(reading, self.clock.monotonic_ns())

    def ask(self, due_ms: int) -> bool:
        return self.handover.ask(due_ms * MS, self.clock.monotonic_ns() + self.within_ms * MS)

    def take(self) -> None:
        while handed := self.handover.take(0.0):
            if handed.reading:
                self.frames.append(handed.capture_time_ns // MS)
            else:
                self.gaps.append((handed.capture_time_ns // MS, handed.why))

    def pass_ms(self, duration_ms: int) -> None:
        self.clock.advance(duration_ms * MS)
        self.take()


def test_a_trigger_takes_the_first_frame_that_is_due_and_the_others_are_not_asked_for():
    line = Line()
    for time in (10, 20):
        line.frame(time)
    line.ask(25)
    for time in (22, 30, 40):
        line.frame(time)
    line.take()
    assert line.frames == [30]
    assert line.healths["front"].drops == {"not asked for": 3}  # the newest may still be


def test_a_trigger_that_is_told_late_gets_the_frame_that_came_before_it():
    line = Line()
    line.frame(20)
    line.ask(15)
    line.frame(30)
    line.take()
    assert line.frames == [20]


def test_of_two_triggers_for_one_frame_the_second_waits_for_the_next():
    line = Line()
    line.ask(10)
    line.ask(11)
    line.frame(20)
    line.take()
    assert line.frames == [20]
    line.frame(30)
    line.frame(40)
    line.take()
    assert line.frames == [20, 30]


def test_a_trigger_without_a_frame_is_a_gap():
    line = Line()
    line.ask(10)
    line.pass_ms(49)
    assert not line.gaps
    line.pass_ms(1)
    assert line.gaps == [(10, "a trigger without a frame")]
    line.frame(100)
    line.take()
    assert not line.frames
    assert line.healths["trigger"].drops == {"a trigger without a frame": 1}


def test_frames_that_were_asked_for_wait_in_line():
    line = Line()
    for time in range(10, 70, 10):
        line.ask(time)
        line.frame(time)
    line.take()
    assert line.gaps == [(10, "overtaken by a newer frame"), (20, "overtaken by a newer frame")]
    assert line.frames == [30, 40, 50, 60]


def test_a_flood_of_triggers_is_declared():
    line = Line()
    for _ in range(MAX_WAITING + 5):
        line.ask(10)
    line.take()
    assert len(line.gaps) == 5


def test_after_the_end_nobody_asks():
    line = Line()
    line.ask(10)
    line.handover.end()
    assert not line.ask(20)
    line.frame(30)
    line.take()
    assert line.gaps == [(10, "a trigger without a frame")]
    assert line.healths["front"].drops == {"not asked for": 1}


STEPS = st.lists(st.tuples(st.sampled_from(["frame", "ask", "take", "late ask"]), st.integers(0, 30)), max_size=60)


@given(STEPS, st.integers(1, 60))
def test_every_trigger_ends_once_and_every_frame_is_used_once(steps, within_ms):
    line, now, offered, due = Line(within_ms=within_ms), 100, [], []
    for step, delay in steps:
        line.clock.advance(delay * MS)
        now += delay
        if step == "frame":
            now += 1
            offered.append(now)
            line.frame(now)
        elif step == "take":
            line.take()
        else:
            due.append(now if step == "ask" else now - 20)
            assert line.ask(due[-1])
    line.handover.end()
    line.take()
    drops = line.healths["front"].drops
    assert len(due) == len(line.frames) + len(line.gaps)
    assert len(offered) == len(line.frames) + drops["not asked for"] + drops["overtaken by a newer one"]
    assert line.frames == sorted(set(line.frames))
    assert set(line.frames) <= set(offered)
    for count, captured in enumerate(line.frames, 1):
        assert sum(time <= captured for time in due) >= count


def test_only_the_reference_sensors_frames_are_filtered(live, stages):
    source = live(trigger=BELL)
    source.declare("front")
    assert not source.continuous
    assert source.sensors == {"front", "roof"}
    readings = source.readings(0)
    stages["eye"].script.put(picture())
    stages["spin"].script.put(sweep())
    assert next(readings)[1].sensor == "roof"
    until(lambda: source.told()["front"]["frames"] == 1)
    stages["bell"].script.put(picture())
    until(lambda: source.told()["trigger"]["frames"] == 1)
    stages["eye"].script.put(picture())
    assert next(readings)[1].sensor == "front"
    assert source.told()["trigger"]["state"] == "streaming"


def test_a_delay_asks_for_a_later_frame(live, stages):
    source = live(trigger=BELL | {"delay_s": 0.2, "within_s": 5})
    source.declare("front")
    readings = source.readings(0)
    stages["spin"].script.put(sweep())
    begun = next(readings)[1]
    stages["bell"].script.put(picture())
    until(lambda: source.told()["trigger"]["frames"] == 1)

    def asked_for() -> bool:
        stages["eye"].script.put(picture())
        told = source.told()["front"]
        return told["frames"] > told["drops"].get("not asked for", 0) + 1  # the newest is neither

    until(asked_for)
    taken = next(readings)[1]
    assert taken.capture_time_ns - begun.capture_time_ns > 0.2e9


def test_a_trigger_that_breaks_off_is_opened_again_and_quiet_is_no_failure(live, stages):
    source = live(eye(silent_s=0.05), {"name": "roof", "url": "fake-lidar://spin"}, trigger=BELL)
    source.declare("front")
    readings = source.readings(0)
    stages["spin"].script.put(sweep())
    next(readings)
    until(lambda: source.told()["trigger"]["state"] == "streaming")
    until(lambda: source.told()["front"]["state"] == "silent")
    assert source.told()["trigger"]["state"] == "streaming"
    stages["bell"].there = False
    stages["bell"].script.put(SensorError("fake://bell: the wire is cut"))
    until(lambda: source.told()["trigger"]["why"] == "fake://bell: no such device")
    assert source.blind()
    stages["bell"].there = True
    until(lambda: source.told()["trigger"]["state"] == "streaming")
    assert source.told()["trigger"]["restarts"] >= 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": "x", "trigger": BELL}, "only for kind = 'live'"),
        ({"kind": "live", "sensors": [eye()], "trigger": {"url": "bell"}}, "give SCHEME://"),
        ({"kind": "live", "sensors": [eye()], "trigger": BELL | {"within_s": 0}}, "greater than 0"),
    ],
)
def test_a_trigger_belongs_to_live_sensors(settings, told):
    with pytest.raises(ValueError, match=told):
        SourceSettings(**settings)


def test_a_trigger_that_nobody_knows_is_refused(live):
    with pytest.raises(ConfigError, match=r"bell://\*\*\*@x: no driver for 'bell'; known: fake, gpio, mqtt, mqtts"):
        trigger_class("bell://me:secret@x")
    with pytest.raises(ConfigError, match="no driver for 'bell'"):
        live(trigger={"url": "bell://x"})


def test_a_sensor_called_trigger_leaves_no_name_for_one():
    task = Task.load("yard")
    task.sensors["trigger"] = task.sensors["front"]
    settings = SourceSettings(kind="live", sensors=[eye()], trigger=BELL)
    with pytest.raises(ConfigError, match="task yard has a sensor 'trigger'"):
        LiveSource.open(settings, task)
