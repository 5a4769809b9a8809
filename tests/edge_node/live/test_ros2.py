"""Sensors by ROS 2 topics: what messages become, their times, and what is told when there is no topic or no ROS."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from edge_node.live import LiveSource
from edge_node.live.drivers import Mount
from edge_node.live.ros2 import Ros2Driver, topic
from edge_node.live.ros2.address import TopicAddress
from edge_node.settings.live import LiveSensorSettings
from fusion.clock import ManualClock
from fusion.errors import ConfigError, SensorError
from fusion.task import Task

from . import ros as fake
from .conftest import until

TASK = Task.load("yard")
START, MS = 10**18, 1_000_000
PIXELS = np.full((4, 6, 3), (200, 100, 50), np.uint8)
POINTS = np.array([[1, 2, 3, 0.5, 0.0], [4, 5, 6, 1.0, 0.04], [7, 8, 9, 0.0, 0.1]], np.float32)
TONE = np.arange(1600, dtype=np.int16)


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setattr(topic, "DISCOVERY_S", 0.2)
    found = fake.install(monkeypatch)
    yield found
    assert not found.open
    assert not found.subscriptions


class Listener:
    """A driver on a topic whose clock stands at `START`; `read` publishes and takes what comes of it."""

    def __init__(self, graph: fake.Graph, sensor: str, name: str, kind: str, asked: str = "") -> None:
        self.graph, self.name, self.drops, self.clock = graph, name, Counter(), ManualClock(START)
        mount = Mount(sensor, TASK.sensors[sensor], self.clock.wall_ns, lambda why, n: self.drops.update({why: n}))
        graph.advertise(name, kind)
        self.driver = Ros2Driver.open(f"ros2://{name}{asked}", mount)
        self.found: list = []
        self.failed: list[Exception] = []
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        until(lambda: graph.subscribed(name) or self.failed)

    def _work(self) -> None:
        try:
            self.found.extend(self.driver.readings())
        except SensorError as error:
            self.failed.append(error)

    def publish(self, *messages) -> None:
        for message in messages:
            self.publish_at_once(message)

    def publish_at_once(self, *messages) -> None:
        self.graph.publish(self.name, *messages)
        until(lambda: self.graph.idle(self.name) or self.failed)

    def end(self) -> list:
        """What came, when it is closed; within a second."""
        self.driver.close()
        self.thread.join(1)
        assert not self.thread.is_alive()
        return self.found

    def why(self) -> str:
        """Why it ended by itself."""
        self.thread.join(5)
        return str(self.failed[0])


def test_pictures_of_both_kinds(graph):
    raw = Listener(graph, "front", "/camera/image_raw", fake.IMAGE)
    raw.publish(fake.image(PIXELS))
    (reading,) = raw.end()
    assert (reading.sensor, reading.capture_time_ns) == ("front", START)
    assert (reading.payload.pixels == PIXELS[:, :, ::-1]).all()
    packed = Listener(graph, "front", "/camera/image_raw/compressed", fake.JPEG)
    packed.publish(fake.jpeg(PIXELS))
    (reading,) = packed.end()
    assert np.abs(reading.payload.pixels.astype(int) - PIXELS[:, :, ::-1]).max() < 8
    assert reading.payload.encoded.startswith(b"\xff\xd8")


def test_a_sweep_was_begun_before_it_arrived(graph):
    roof = Listener(graph, "roof", "/points", fake.CLOUD)
    roof.publish(fake.cloud(POINTS[:0]), fake.cloud(POINTS, stamp_ns=5 * 10**17))
    empty, sweep = roof.end()
    assert (len(empty.payload.points), empty.capture_time_ns) == (0, START)
    assert abs(sweep.capture_time_ns - (START - 100 * MS)) < 10
    assert np.allclose(sweep.payload.points, POINTS[:, :4])
    assert np.allclose(sweep.payload.offsets_s, POINTS[:, 4])


@pytest.mark.parametrize("kind", [fake.AUDIO, fake.STAMPED_AUDIO])
def test_sound_is_told_by_its_rate_and_none_of_it_is_lost(graph, kind):
    mic = Listener(graph, "mic", "/audio", kind)
    for number in range(15):
        late_ms = 20 if number == 3 else 0
        mic.clock.now_ns = START + (number * 100 + late_ms) * MS
        mic.publish(fake.audio(TONE + number, START if kind == fake.STAMPED_AUDIO else None))
    chunks = mic.end()
    assert [chunk.payload.pcm[0] for chunk in chunks] == list(range(15))
    assert [chunk.capture_time_ns for chunk in chunks] == [START + (n - 1) * 100 * MS for n in range(15)]
    assert chunks[0].payload.sample_rate_hz == 16_000


def test_compressed_sound_is_refused(graph):
    mic = Listener(graph, "mic", "/audio", fake.AUDIO)
    for number in range(12):
        mic.clock.now_ns = START + number * 100 * MS
        mic.publish(fake.audio(TONE[:100]))
    assert mic.why().startswith("ros2:///audio: topic /audio is not read as sound: no AudioInfo beside it, and 2000 by")


def test_of_pictures_that_waited_the_newest_counts(graph):
    front = Listener(graph, "front", "/camera", fake.IMAGE)
    front.publish_at_once(*(fake.image(PIXELS - shade) for shade in range(9)))
    (reading,) = front.end()
    assert (reading.payload.pixels == PIXELS[:, :, ::-1] - 8).all()
    assert front.drops == {"overtaken by a newer one": 4}


def test_a_message_that_cannot_be_read_is_counted_and_the_first_is_told(graph, caplog):
    front = Listener(graph, "front", "/camera", fake.IMAGE)
    short = fake.image(PIXELS)
    short.data = short.data[:-6]
    front.publish(fake.image(PIXELS), short, short, fake.image(PIXELS))
    assert len(front.end()) == 2
    assert front.drops == {"cannot be read": 2}
    (told,) = [record.message for record in caplog.records if "passed over" in record.message]
    assert told.startswith("sensor front: ros2:///camera: messages passed over: the picture's data are only")


def test_stamps_are_capture_times_where_they_can_be_meant(graph):
    front = Listener(graph, "front", "/camera", fake.IMAGE, "?stamp=header")
    ages_ms = [30, -60, 30, 40, 10, 6000, -20]
    front.publish(*(fake.image(PIXELS, START - age * MS) for age in ages_ms), fake.image(PIXELS, 0))
    assert [reading.capture_time_ns - START for reading in front.end()] == [-30 * MS, -10 * MS, 20 * MS]
    assert front.drops == {
        "a stamp in the future": 1, "a stamp that repeats or goes back": 2, "a stamp of long ago": 1, "no stamp": 1,
    }  # fmt: skip


def test_stamps_follow_a_clock_that_was_set_back(graph):
    front = Listener(graph, "front", "/camera", fake.IMAGE, "?stamp=header")
    front.publish(fake.image(PIXELS, START))
    front.clock.now_ns = START - 3600 * 10**9
    front.publish(fake.image(PIXELS, START - 3600 * 10**9))
    assert [reading.capture_time_ns - START for reading in front.end()] == [0, -3600 * 10**9]


def test_a_stamped_sweep_keeps_its_stamp(graph):
    roof = Listener(graph, "roof", "/points", fake.CLOUD, "?stamp=header")
    roof.publish(fake.cloud(POINTS, START - 100 * MS))
    (sweep,) = roof.end()
    assert sweep.capture_time_ns == START - 100 * MS
    assert np.allclose(sweep.payload.offsets_s, POINTS[:, 4])


@pytest.mark.parametrize(
    ("sensor", "kind", "asked", "told"),
    [
        ("front", "std_msgs/msg/String", "", "is of type std_msgs/msg/String, which is not read as a camera; types"),
        (
            "roof",
            fake.IMAGE,
            "",
            f"is of type {fake.IMAGE}, which is not read as a LiDAR; types that are: {fake.CLOUD}",
        ),
        ("mic", fake.AUDIO, "?stamp=header", "which is not read as sound with stamps in headers; types that are: "),
    ],
)
def test_another_type_is_told(graph, sensor, kind, asked, told):
    why = Listener(graph, sensor, "/topic", kind, asked).why()
    assert why.startswith(f"ros2:///topic{asked}: topic /topic is of type {kind}")
    assert told in why


def test_a_type_that_nobody_has_is_told(graph, monkeypatch):
    monkeypatch.setattr(fake, "KNOWN", set())
    why = Listener(graph, "front", "/camera", fake.IMAGE).why()
    assert why == (
        "ros2:///camera: its type sensor_msgs/msg/Image cannot be imported (No module named 'sensor_msgs'); "
        "source the workspace that has it"
    )


@pytest.mark.parametrize(
    ("message", "sensor", "kind", "told"),
    [
        (fake.image(PIXELS, encoding="16UC1"), "front", fake.IMAGE, "is not read as a camera: depth, encoding '16UC1'"),
        (fake.image(PIXELS, encoding="h264"), "front", fake.IMAGE, "is not read as a camera: encoding 'h264'"),
        (
            fake.jpeg(PIXELS, form="16UC1; png compressed "),
            "front",
            fake.JPEG,
            "is not read as a camera: depth, format '16UC1; png compressed '",
        ),
    ],
)
def test_a_topic_that_is_no_sensor_is_told(graph, message, sensor, kind, told):
    listener = Listener(graph, sensor, "/topic", kind)
    graph.publish("/topic", message)
    assert listener.why() == f"ros2:///topic: topic /topic {told}"


def test_points_without_coordinates_are_told(graph):
    roof = Listener(graph, "roof", "/points", fake.CLOUD)
    flat = fake.cloud(POINTS)
    flat.fields[2].name = "height"
    graph.publish("/points", flat)
    assert "topic /points is not read as a LiDAR: the points have no field z" in roof.why()


def test_a_topic_that_nobody_publishes_is_told_and_one_that_appears_is_used(graph):
    driver = Ros2Driver.open("ros2:///late?domain=7", Mount("front", TASK.sensors["front"], time.time_ns))
    with pytest.raises(SensorError, match=r"ros2:///late\?domain=7: nobody publishes /late in domain 7; is its node"):
        next(driver.readings())

    def appear() -> None:
        graph.advertise("/late", fake.IMAGE)
        graph.advertise("/late", "std_msgs/msg/String", fake.IMAGE, domain=7)
        until(lambda: graph.subscribed("/late"))
        graph.publish("/late", fake.image(PIXELS), domain=7)

    threading.Timer(0.05, appear).start()
    readings = driver.readings()
    assert next(readings).payload.pixels.shape == PIXELS.shape
    driver.close()
    assert list(readings) == []


def test_a_publisher_that_leaves_is_told(graph, monkeypatch):
    monkeypatch.setattr(topic, "QUIET_S", 0.0)
    monkeypatch.setattr(topic, "WAIT_S", 0.01)
    front = Listener(graph, "front", "/camera", fake.IMAGE)
    front.publish(fake.image(PIXELS))
    until(lambda: front.found or front.failed)
    graph.leave("/camera")
    assert front.why() == "ros2:///camera: nobody publishes /camera any more"


def test_ros_that_is_shut_down_is_told(graph):
    front = Listener(graph, "front", "/camera", fake.IMAGE)
    graph.contexts[-1].try_shutdown()
    assert front.why().startswith("ros2:///camera: ROS broke off")


def test_it_is_closed_while_the_topic_is_not_there(graph, monkeypatch):
    monkeypatch.setattr(topic, "DISCOVERY_S", 30)
    driver = Ros2Driver.open("ros2:///never", Mount("front", TASK.sensors["front"], time.time_ns))
    threading.Timer(0.05, driver.close).start()
    began = time.monotonic()
    assert list(driver.readings()) == []
    assert time.monotonic() - began < 1


def test_delivery_is_as_for_sensors_unless_it_is_asked_for(graph):
    easy = Listener(graph, "front", "/camera", fake.IMAGE)
    assert graph.subscriptions[0].qos.reliability is fake.ReliabilityPolicy.BEST_EFFORT
    assert graph.subscriptions[0].node.name == "fusion_front"
    easy.end()
    strict = Listener(graph, "front", "/camera", fake.IMAGE, "?qos=reliable")
    strict.publish(fake.image(PIXELS))
    assert strict.end() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ros2://camera/image", r"names no topic; write ros2:///TOPIC"),
        ("ros2:///", r"names no topic"),
        ("ros2:///1camera", r"names no topic"),
        ("ros2:///camera?domain=300", r"domain is a number from 0 to 232"),
        ("ros2:///camera?qos=best", r"qos is sensor or reliable"),
        ("ros2:///camera?stamp=sensor", r"stamp is arrival or header"),
        ("ros2:///camera?topic=x", r"unknown key 'topic'; known keys: domain, qos, stamp"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url, told):
    with pytest.raises(ConfigError, match=f"^{re.escape(url.partition('?')[0])}.*{told}"):
        TopicAddress.of(url)


def test_a_python_without_ros_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(SensorError) as caught:
        Ros2Driver.open("ros2:///camera", Mount("front", TASK.sensors["front"], time.time_ns))
    assert str(caught.value) == (
        "ros2:///camera: needs rclpy, which is missing; source the ROS setup file before the daemon starts "
        "(. /opt/ros/jazzy/setup.sh); Python must be ROS's own (3.12 for Jazzy)"
    )


def test_sound_at_another_rate_is_refused():
    mic = TASK.sensors["mic"].model_copy(update={"sample_rate_hz": 8000})
    with pytest.raises(ConfigError, match="sound of ROS is read at 16000 Hz; 'mic' has 8000 Hz"):
        Ros2Driver.open("ros2:///audio", Mount("mic", mic, time.time_ns))


def test_three_topics_as_the_sensors_of_a_source_and_a_node_that_comes_back(graph, monkeypatch):
    monkeypatch.setattr(topic, "QUIET_S", 0.0)
    monkeypatch.setattr(topic, "WAIT_S", 0.01)
    named = {"front": ("/camera", fake.IMAGE), "roof": ("/points", fake.CLOUD), "mic": ("/audio", fake.AUDIO)}
    for name, kind in named.values():
        graph.advertise(name, kind)
    quick = {"backoff_first_s": 0.01, "backoff_max_s": 0.02}
    settings = [LiveSensorSettings(name=sensor, url=f"ros2://{at}", **quick) for sensor, (at, _) in named.items()]
    source = LiveSource([(each, Ros2Driver) for each in settings], TASK)
    readings = source.readings(0)
    played = threading.Event()

    def play() -> None:
        for number in itertools.count():
            if played.wait(0.01):
                return
            graph.publish("/camera", fake.image(PIXELS))
            graph.publish("/points", fake.cloud(POINTS))
            graph.publish("/audio", fake.audio(TONE[:160] + number))

    player = threading.Thread(target=play)
    player.start()
    seen = {"front", "roof", "mic"}
    while seen:
        seen.discard(next(readings)[1].sensor)
    graph.leave("/camera")
    played.set()
    player.join()
    until(lambda: source.told()["front"]["restarts"] > 1)
    assert source.told()["front"]["why"].startswith("ros2:///camera: nobody publishes /camera")
    graph.advertise("/camera", fake.IMAGE)
    until(lambda: graph.subscribed("/camera"))
    graph.publish("/camera", fake.image(PIXELS))
    until(lambda: source.told()["front"]["state"] == "streaming")
    source.close()
