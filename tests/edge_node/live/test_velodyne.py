"""A Velodyne on a real port; packets are made."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_node.live import datagrams
from edge_node.live.drivers import Mount
from edge_node.live.velodyne import VelodyneDriver
from fusion.errors import ConfigError, SensorError
from fusion.recording.velodyne.synthetic import packet, turns
from fusion.task import Task
from fusion.types import PointCloud

ROOF = Task.load("yard").sensors["roof"]


def test_a_sensor_on_the_network_delivers_sweeps(live, free_port, caplog):
    source = live({"name": "roof", "url": f"velodyne://127.0.0.1:{free_port}?model=vlp16"})
    found: list = []
    reader = threading.Thread(target=lambda: found.extend(itertools.islice(source.readings(0), 2)))
    reader.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sensor:
        for data in itertools.chain.from_iterable([b"?" * 7, b"\0" * 512, *turns(1)[:-1]] for _ in range(200)):
            sensor.sendto(data, ("127.0.0.1", free_port))
            if len(found) == 2:
                break
            time.sleep(0.0005)
    reader.join(5)
    (_, first), (_, second) = found
    assert second.capture_time_ns > first.capture_time_ns
    assert first.payload.points.shape[1] == 4
    assert source.told()["roof"]["drops"]["packet: size"] >= 1
    assert [r.message for r in caplog.records if "passed over" in r.message] == [
        f"sensor roof: velodyne://127.0.0.1:{free_port}?model=vlp16: packets passed over: size"
    ]


def test_of_two_sensors_on_a_port_the_first_counts_until_it_is_quiet(free_port, monkeypatch):
    drops: Counter[str] = Counter()
    mount = Mount("roof", ROOF, time.time_ns, lambda reason, count: drops.update({reason: count}))
    driver = VelodyneDriver.open(f"velodyne://127.0.0.1:{free_port}", mount)
    readings = driver.readings()
    with sender("127.0.0.1") as stranger, sender("127.0.0.2") as first, sender("127.0.0.3") as second:
        near, far = turns(2), turns(2, start=18_000, distance=10_000)
        both = [pair for one, other in zip(near, far, strict=True) for pair in ((first, one), (second, other))]
        with sending([(stranger, packet(0, 0, product=0x21)), *both], free_port):
            cloud = next(readings).payload
        assert len(cloud.points) == 900 * 32
        assert farthest(cloud) < 10.1
        assert drops == {"packet: product id 0x21": 1, "packet: another sender's": 150}
        monkeypatch.setattr(datagrams, "_QUIET_NS", 50_000_000)
        with sending([(second, data) for data in turns(6, distance=10_000)], free_port):
            assert farthest(next(readings).payload) > 19.9
    driver.close()


@contextmanager
def sending(sent: list[tuple[socket.socket, bytes]], port: int) -> Iterator[None]:
    """From a thread, slowly enough for any buffer."""

    def work() -> None:
        for sensor, data in sent:
            sensor.sendto(data, ("127.0.0.1", port))
            time.sleep(0.0005)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def farthest(cloud: PointCloud) -> float:
    return float(np.linalg.norm(cloud.points[:, :3], axis=1).max())


def sender(host: str) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((host, 0))
    return found


def test_a_port_that_is_taken_and_a_model_that_is_none_are_told(free_port):
    mount = Mount("roof", ROOF, lambda: 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", free_port))
        with pytest.raises(SensorError, match="cannot listen: address already in use"):
            VelodyneDriver.open(f"velodyne://127.0.0.1:{free_port}", mount)
    with pytest.raises(ConfigError, match="model 'vlp61' is not known; known: hdl32e, puck-hires, vlp16"):
        VelodyneDriver.open("velodyne://127.0.0.1?model=vlp61", mount)
    with pytest.raises(ConfigError, match="unknown key 'modle'; known keys: model"):
        VelodyneDriver.open("velodyne://127.0.0.1?modle=vlp16", mount)
