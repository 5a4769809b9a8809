"""The vehicle's own motion taken out of live sweeps: which wait for odometry, which do not, and odometry by ROS 2."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest

from edge_node.config import SourceSettings
from edge_node.live import LiveSource
from edge_node.live.deskew import LiveDeskew
from edge_node.live.fakes import FakeDriver, FakeLidarDriver, FakeOdometry
from edge_node.live.ros2 import Ros2Odometry
from edge_node.settings.live import LiveSensorSettings, OdometrySettings
from fusion.clock import ManualClock
from fusion.errors import ConfigError, InputError
from fusion.geometry import Rig, rigid, rotation_z
from fusion.recording.base import EgoPose
from fusion.task import Task
from fusion.types import Modality, PointCloud, Reading

from . import ros as fake
from .conftest import eye, picture, until

TASK = Task.load("yard")
START, MS = 10**18, 1_000_000
PLACE = rigid(rotation_z(np.pi / 2), np.array([1.0, 0.0, 2.0]))
WHEELS = OdometrySettings(url="fake://wheels", backoff_first_s=0.01)


def sweep(begin_ms: float = 0, offsets_ms=(0, 50, 100)) -> Reading:
    """Points at the sensor's origin, each at its own time."""
    points = np.zeros((len(offsets_ms), 4), np.float32)
    offsets = np.array(offsets_ms, np.float32) / 1000
    return Reading("roof", Modality.LIDAR, START + round(begin_ms * MS), PointCloud(points, offsets))


def driven(ms: float) -> EgoPose:
    """At 10 m/s along x."""
    return EgoPose(START + round(ms * MS), rigid(np.eye(3), np.array([ms / 100, 0.0, 0.0])))


class Bench:
    """A deskewer with its clock in hand; `passed` is what it handed on."""

    def __init__(self) -> None:
        self.clock, self.counts, self.passed = ManualClock(START), Counter(), []
        self.deskew = LiveDeskew(
            {"roof": PLACE},
            self.clock,
            lambda why: self.counts.update([why]),
            lambda r, at: self.passed.append((r, at)),
        )

    def drive(self, *times_ms: float) -> None:
        for ms in times_ms:
            self.deskew.pose(driven(ms))
        self.deskew.work()

    def sweep(self, begin_ms: float = 0, late_ms: float = 0) -> None:
        """One arrives now, or `late_ms` ago."""
        self.deskew.sweep(sweep(begin_ms), self.clock.monotonic_ns() - round(late_ms * MS))
        self.deskew.work()


def is_still(reading: Reading) -> bool:
    """At 100 ms the vehicle is 1 m on, which is where the sensor's right is."""
    cloud = reading.payload
    return cloud.offsets_s is None and np.allclose(cloud.points[:, :2], [[0, 0], [0, -0.5], [0, -1]], atol=1e-5)


def test_a_sweep_waits_for_the_pose_that_covers_it():
    bench = Bench()
    bench.drive(-20, 20, 60, 99)
    bench.sweep(late_ms=7)
    assert bench.passed == []
    bench.drive(105)
    ((reading, arrived_ns),) = bench.passed
    assert is_still(reading)
    assert (arrived_ns, reading.capture_time_ns, bench.counts) == (START - 7 * MS, START, {})
    bench.sweep()
    assert len(bench.passed) == 2


def test_sweeps_keep_their_order():
    bench = Bench()
    bench.drive(*range(-20, 200, 20))
    bench.sweep(100, late_ms=2)
    bench.sweep(0, late_ms=1)
    assert bench.passed == []
    bench.drive(201)
    assert [START - arrived_ns for _, arrived_ns in bench.passed] == [2 * MS, 1 * MS]


def test_a_sweep_does_not_wait_for_ever():
    bench = Bench()
    bench.drive(-20, 50)
    bench.sweep()
    bench.clock.advance(90 * MS)
    bench.deskew.work()
    assert bench.passed == []
    bench.clock.advance(20 * MS)
    bench.deskew.work()
    assert bench.passed[0][0].payload.offsets_s is not None
    assert bench.counts == {"sweep not covered": 1}


@pytest.mark.parametrize(
    "poses_ms",
    [[], [10, 50], [-300, -200], [-20, -20, 120], [-4000, 120]],
    ids=["none", "late", "old", "again", "gone"],
)
def test_a_sweep_that_poses_do_not_cover_is_passed_on_at_once(poses_ms):
    bench = Bench()
    bench.drive(*poses_ms)
    bench.sweep()
    covered = poses_ms == [-20, -20, 120]
    assert is_still(bench.passed[0][0]) is covered
    assert bench.counts == ({} if covered else {"sweep not covered": 1})


def test_poses_before_the_clock_was_set_do_not_count():
    bench = Bench()
    bench.drive(10_000, -20, 120)
    bench.sweep()
    assert is_still(bench.passed[0][0])


def test_what_is_no_pose_is_refused():
    bench = Bench()
    with pytest.raises(InputError, match="is no \\(4, 4\\) of finite numbers"):
        bench.deskew.pose(EgoPose(START, np.full((4, 4), np.nan)))
    bench.drive(-20, 120)
    bench.sweep()
    assert is_still(bench.passed[0][0])


def test_a_sweep_without_point_times_is_counted():
    bench = Bench()
    bench.drive(-20, 120)
    plain = Reading("roof", Modality.LIDAR, START, PointCloud(np.zeros((1, 4), np.float32)))
    bench.deskew.sweep(plain, 1)
    bench.deskew.work()
    assert bench.passed == [(plain, 1)]
    assert bench.counts == {"sweep without point times": 1}


def test_a_machine_that_is_too_slow_passes_sweeps_on_as_they_were():
    bench = Bench()
    for pose in (-20, 120):
        bench.deskew.pose(driven(pose))
    for _ in range(6):
        bench.deskew.sweep(sweep(), START)
    bench.deskew.work()
    assert [is_still(reading) for reading, _ in bench.passed] == [False] * 2 + [True] * 4
    assert bench.counts == {"no time for a sweep": 2}


def test_its_thread_ends_with_what_waits_passed_on():
    bench = Bench()
    thread = threading.Thread(target=bench.deskew.run)
    thread.start()
    bench.deskew.pose(driven(-20))
    bench.deskew.pose(driven(50))
    bench.deskew.sweep(sweep(), START)
    bench.deskew.end()
    thread.join(5)
    assert len(bench.passed) == 1


def test_a_source_takes_its_motion_out_of_sweeps_and_tells_how_odometry_stands(stages):
    clock = ManualClock(START)
    sensors = [(LiveSensorSettings(**eye()), FakeDriver), (LiveSensorSettings(name="roof", url="fake-lidar://spin"),
                FakeLidarDriver)]  # fmt: skip
    late = WHEELS.model_copy(update={"offset_s": -0.01})
    source = LiveSource(sensors, TASK, odometry=(late, FakeOdometry), rig=Rig({}, {"roof": PLACE}), clock=clock)
    readings = source.readings(0)
    stages["eye"].script.put(picture())
    assert next(readings)[1].sensor == "front"
    for ms in (-10, 130):
        stages["wheels"].script.put(EgoPose(START + ms * MS, driven(ms - 10).map_from_ego))
    until(lambda: source.told()["odometry"]["frames"] == 2)
    stages["spin"].script.put(sweep().payload)
    assert is_still(next(readings)[1])
    assert source.told()["odometry"]["state"] == "streaming"
    stages["wheels"].script.put(None)
    until(lambda: stages["wheels"].opened == 2)
    assert source.told()["odometry"]["why"] == "fake://wheels: the stream ended"
    assert not source.blind()
    source.close()


def test_odometry_needs_to_know_where_the_lidar_sits(live):
    with pytest.raises(ConfigError, match=r"source.odometry: takes .* source.sensors has no LiDAR"):
        live(eye(), odometry=WHEELS)
    with pytest.raises(ConfigError, match=r"source.odometry: give a source.rig whose calibration says where 'roof'"):
        live(odometry=WHEELS)
    with pytest.raises(ValueError, match="only for kind = 'live'"):
        SourceSettings(path="x", odometry=WHEELS)


@pytest.fixture
def graph(monkeypatch):
    found = fake.install(monkeypatch)
    yield found
    assert not found.open


@pytest.mark.parametrize(("kind", "make"), [(fake.ODOMETRY, fake.odometry), (fake.POSE, fake.stamped_pose)])
@pytest.mark.parametrize("stamped", [False, True])
def test_poses_by_a_topic(graph, kind, make, stamped):
    clock, drops = ManualClock(START), Counter()
    graph.advertise("/odom", kind)
    url = "ros2:///odom" + ("?stamp=header" if stamped else "")
    odometry = Ros2Odometry.open(url, clock.wall_ns, lambda why, count: drops.update({why: count}))
    found: list[EgoPose] = []
    thread = threading.Thread(target=lambda: found.extend(odometry.poses()))
    thread.start()
    until(lambda: graph.subscribed("/odom"))
    wrong = make(0.0, START - 15 * MS)
    (wrong.pose.pose if kind == fake.ODOMETRY else wrong.pose).orientation.w = 0.0
    graph.publish(
        "/odom", make(1.0, START - 20 * MS), wrong, make(2.0, START - 10 * MS, yaw=0.5), make(3.0, START - MS * 10)
    )
    until(lambda: graph.idle("/odom"))
    began = time.monotonic()
    odometry.close()
    thread.join(1)
    assert time.monotonic() - began < 1
    assert [pose.map_from_ego[0, 3] for pose in found] == ([1.0, 2.0] if stamped else [1.0, 2.0, 3.0])
    assert [pose.time_ns - START for pose in found] == ([-20 * MS, -10 * MS] if stamped else [0, 0, 0])
    assert np.allclose(found[1].map_from_ego[:3, :3], rotation_z(0.5))
    assert drops == {"cannot be read": 1} | ({"a stamp that repeats or goes back": 1} if stamped else {})
