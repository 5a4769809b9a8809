"""Supervision of live sensors: order, restarts, hot-plug, silence, and frames that nobody had time for."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest

from edge_node.config import EdgeSettings, SourceSettings
from edge_node.live import LiveSource
from edge_node.live.clock import ArrivalClock
from edge_node.live.drivers import driver_class, library, shown
from edge_node.live.fakes import FakeDriver
from edge_node.live.health import SensorHealth
from fusion.clock import ManualClock
from fusion.config import load_toml
from fusion.errors import ConfigError, SensorError
from fusion.task import Task

from .conftest import eye, picture, sweep, until


def take(readings, count: int) -> list:
    return list(itertools.islice(readings, count))


def test_readings_come_in_order_of_arrival_and_positions_go_on(live, stages):
    source = live()
    readings = source.readings(7)
    stages["eye"].script.put(picture())
    ((position, first),) = take(readings, 1)
    stages["spin"].script.put(sweep())
    ((after, second),) = take(readings, 1)
    assert (position, first.sensor, after, second.sensor) == (8, "front", 9, "roof")
    assert first.capture_time_ns < second.capture_time_ns
    assert source.content != live().content
    assert source.sensors == {"front", "roof"}


def test_an_offset_moves_the_capture_time(live, stages):
    readings = live(eye(), {"name": "roof", "url": "fake-lidar://spin", "offset_s": -5}).readings(0)
    stages["eye"].script.put(picture())
    ((_, frame),) = take(readings, 1)
    stages["spin"].script.put(sweep())
    ((_, turn),) = take(readings, 1)
    assert turn.capture_time_ns - frame.capture_time_ns < -4e9


@pytest.mark.parametrize("end", [None, SensorError("fake://eye: the cable is out")])
def test_a_sensor_that_breaks_off_is_opened_again_and_the_other_goes_on(live, stages, end, caplog):
    caplog.set_level(logging.INFO)
    source = live()
    readings = source.readings(0)
    for given in (picture(), end):
        stages["eye"].script.put(given)
    take(readings, 1)
    until(lambda: stages["eye"].opened == 2)
    told = source.told()["front"]
    assert told["state"] == "failed"
    assert told["why"] == (str(end) if end else "fake://eye: the stream ended")
    assert told["restarts"] == 1
    assert stages["eye"].closed == 1
    stages["spin"].script.put(sweep())
    assert take(readings, 1)[0][1].sensor == "roof"
    stages["eye"].script.put(picture())
    assert take(readings, 1)[0][1].sensor == "front"
    assert source.told()["front"]["state"] == "streaming"
    assert [r.message for r in caplog.records if "front" in r.message] == [
        "sensor front: streaming", f"sensor front: failed: {told['why']}", "sensor front: streaming",
    ]  # fmt: skip


def test_a_sensor_that_appears_later_is_used(live, stages):
    stages["eye"].there = False
    source = live()
    readings = source.readings(0)
    stages["spin"].script.put(sweep())
    take(readings, 1)
    until(lambda: source.told()["front"]["restarts"] > 2)
    assert source.told()["front"]["why"] == "fake://eye: no such device"
    stages["eye"].there = True
    stages["eye"].script.put(picture())
    assert take(readings, 1)[0][1].sensor == "front"


def test_a_driver_that_delivers_something_else_is_told(live, stages):
    source = live()
    readings = source.readings(0)
    stages["eye"].script.put(sweep().points)
    stages["spin"].script.put(sweep())
    take(readings, 1)
    until(lambda: source.healths["front"].broken)
    assert source.told()["front"]["why"] == "fake://eye: delivered ndarray as camera"


def test_silence_is_a_state_and_ends_with_data():
    clock = ManualClock()
    health = SensorHealth("front", 1.0, clock)
    health.delivered()
    clock.advance(900_000_000)
    assert not health.broken
    clock.advance(200_000_000)
    assert health.told() == {
        "state": "silent", "why": "no data for 1 s", "since_s": 0.0, "frames": 1, "restarts": 0, "drops": {},
    }  # fmt: skip
    health.delivered()
    assert not health.broken


def test_a_sensor_that_never_says_anything_is_silent():
    clock = ManualClock()
    health = SensorHealth("front", 0.5, clock)
    clock.advance(600_000_000)
    assert health.told()["state"] == "silent"


def test_the_newest_wins_and_what_it_overtook_is_declared(live, stages):
    source = live()
    source.declare("front")
    readings = source.readings(0)
    for _ in range(5):
        stages["eye"].script.put(picture())
    (first,) = take(readings, 1)
    until(lambda: source.told()["front"]["frames"] == 5)
    overtaken = 5 - 1 - 1
    held = [source.hold(first[1].capture_time_ns)]
    rest = []
    for position, frame in itertools.islice(readings, 4):
        rest.append(position)
        held.append(source.hold(frame.capture_time_ns))
    assert rest == [2, 3, 4, 5]
    assert held.count("") == 5 - source.told()["front"]["drops"]["overtaken by a newer one"]
    assert 1 <= held.count("overtaken by a newer frame") <= overtaken + 1
    assert held[-1] == ""


def test_a_frame_that_waited_too_long_is_declared(stages):
    clock = ManualClock(10**18)
    settings = SourceSettings(kind="live", sensors=[eye()])
    source = LiveSource([(settings.sensors[0], FakeDriver)], Task.load("yard"), drop_late_s=0.5, clock=clock)
    source.declare("front")
    stages["eye"].script.put(picture())
    ((_, frame),) = take(source.readings(0), 1)
    clock.advance(600_000_000)
    assert source.hold(frame.capture_time_ns) == "more than 0.5 s behind"
    assert source.told()["front"]["drops"] == {"too late": 1}
    source.close()


def test_sensors_that_are_not_the_tasks_are_refused(live):
    with pytest.raises(ConfigError, match="task yard has no sensor 'rear'; it has front, roof, mic"):
        live(eye(name="rear"))
    with pytest.raises(ConfigError, match="fake://eye is a camera where 'roof' is a lidar"):
        live(eye(name="roof"))
    with pytest.raises(ConfigError, match=r"sonar://\*\*\*@x: no driver for 'sonar'; known: .*fake"):
        driver_class("sonar://me:secret@x")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rtsp://admin:p@ss@cam/1", "rtsp://***@cam/1"),
        ("rtsp://admin:a/b@cam/1", "rtsp://***@cam/1"),
        ("http://cam/video.cgi?user=admin&pwd=hunter2", "http://cam/video.cgi?user=***&pwd=***"),
        ("http://cam/x?hunter2", "http://cam/x?***"),
        ("velodyne://0.0.0.0:2368?model=hdl32e", "velodyne://0.0.0.0:2368?model=hdl32e"),
        ("file:///films/yard.mp4", "file:///films/yard.mp4"),
    ],
)
def test_what_may_be_secret_in_a_url_is_not_shown(url, told):
    assert shown(url) == told


@pytest.mark.parametrize("url", ["RTSP://admin:hunter2@cam/1", "rtsp://admin:hunter 2@cam/1", "hunter2@cam"])
def test_a_url_that_is_none_is_refused_without_being_told(url, tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text(f'[source]\nkind = "live"\n[[source.sensors]]\nname = "front"\nurl = "{url}"\n')
    with pytest.raises(ConfigError) as caught:
        load_toml(path, EdgeSettings)
    assert "hunter" not in str(caught.value)
    assert "SCHEME://" in str(caught.value)
    assert "'source.sensors.0.url'" in str(caught.value)


def test_a_host_that_is_none_is_one_line():
    with pytest.raises(ConfigError, match=r"^rtsp://\[fe80::1/stream: .*IPv6"):
        driver_class("rtsp://[fe80::1/stream")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "live", "path": "x", "sensors": [eye()]}, "live sensors have no path"),
        ({"kind": "live"}, "give \\[\\[source.sensors\\]\\] with a name and a url"),
        ({"path": "x", "sensors": [eye()]}, "only for kind = 'live'"),
        ({"kind": "live", "sensors": [eye(), eye()]}, "'front' is given twice"),
        ({"kind": "live", "sensors": [eye()], "pace": "realtime"}, "live sensors have their own pace"),
        ({"kind": "live", "sensors": [eye()], "loop": True}, "live sensors cannot be read again"),
    ],
)
def test_recordings_have_a_path_and_live_sources_sensors(settings, told):
    with pytest.raises(ValueError, match=told):
        SourceSettings(**settings)


def test_arrival_follows_a_clock_that_was_set_but_not_one_that_is_corrected():
    class Host(ManualClock):
        wall = 0

        def wall_ns(self):
            return self.wall + self.now_ns

    host = Host()
    clock = ArrivalClock(host)
    assert clock.now_ns() == 0
    host.advance(10)
    host.wall = -3_000_000_000
    assert clock.now_ns() == 10
    host.wall = 3_600_000_000_000
    assert clock.now_ns() == 3_600_000_000_010


def test_a_thread_that_read_the_clock_before_a_step_does_not_follow_it_back():
    class Host(ManualClock):
        """Whoever is called `slow` is held up between reading the wall clock and telling it."""

        def wall_ns(self):
            read = self.now_ns
            if threading.current_thread().name == "slow":
                reading.set()
                go.wait(0.5)
            return read

        def monotonic_ns(self):
            return 0

    reading, go = threading.Event(), threading.Event()
    host = Host(10**18)
    clock = ArrivalClock(host)
    clock.now_ns()
    slow = threading.Thread(target=clock.now_ns, name="slow")
    slow.start()
    assert reading.wait(10)
    host.advance(3_600_000_000_000)
    assert clock.now_ns() == 10**18 + 3_600_000_000_000
    go.set()
    slow.join(10)
    assert clock.now_ns() == 10**18 + 3_600_000_000_000
    assert clock.steps == 1


def test_a_library_that_is_missing_is_named():
    with pytest.raises(SensorError, match=r"mic://x: needs nosuchlib, which is missing; install fusion-stack\[live\]"):
        library("nosuchlib", "mic://x")
