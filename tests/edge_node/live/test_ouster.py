"""An Ouster sensor on a real port: turns that the maker's library made become sweeps with the host's times."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import numpy as np
import pytest

from edge_node.live.drivers import Mount
from edge_node.live.ouster import OusterDriver
from fusion.errors import ConfigError
from fusion.task import Task

core = pytest.importorskip("ouster.sdk.core", reason="needs ouster-sdk: install fusion-stack[live]")
MOUNT = Mount("roof", Task.load("yard").sensors["roof"], time.time_ns)


@pytest.fixture
def sensor(tmp_path):
    """The sensor's metadata as the library has it, and the file of it."""
    info = core.SensorInfo.from_default(core.LidarMode._512x10)
    info.config.udp_port_lidar, info.config.udp_port_imu = 7502, 7503  # without them its JSON turns the LiDAR off
    path = tmp_path / "sensor.json"
    path.write_text(info.to_json_string())
    return info, path


def packets(info, number: int) -> list[bytes]:
    """One turn: everything is 5 m away."""
    frame = core.LidarFrame(info)
    frame.frame_id = number
    frame.field("RANGE")[:] = 5000
    frame.field("REFLECTIVITY")[:] = 51
    frame.timestamp[:] = number * 10**8 + np.arange(512) * 195_000
    frame.measurement_id[:] = np.arange(512)
    frame.status[:] = 1
    layout = core.PacketFormat.from_info(info)
    return [bytes(packet.buf) for packet in core.frame_to_packets(frame, layout, info.init_id, info.sn)]


def test_turns_become_sweeps_with_the_hosts_times(live, sensor, free_port):
    info, path = sensor
    source = live({"name": "roof", "url": f"ouster://127.0.0.1:{free_port}?metadata={path}"})
    found: list = []
    reader = threading.Thread(target=lambda: found.extend(itertools.islice(source.readings(0), 2)))
    began = time.time_ns()
    reader.start()
    made = [packets(info, number) for number in range(1, 9)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in itertools.chain.from_iterable([b"?", *turn] for turn in made * 20):
            sender.sendto(data, ("127.0.0.1", free_port))
            if len(found) == 2:
                break
            time.sleep(0.0005)
    reader.join(5)
    assert len(found) == 2
    assert source.told()["roof"]["drops"]["packet: another size's"] >= 1
    for _, reading in found:
        distance = np.linalg.norm(reading.payload.points[:, :3], axis=1)
        assert len(distance) == 512 * info.format.pixels_per_column
        assert np.abs(distance - 5).max() < 0.1
        assert 0 < reading.payload.offsets_s.max() < 0.1
        assert began < reading.capture_time_ns < time.time_ns()


def test_metadata_that_is_missing_or_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"give \?metadata=FILE"):
        OusterDriver.open("ouster://127.0.0.1:0", MOUNT)
    with pytest.raises(ConfigError, match="cannot be read"):
        OusterDriver.open("ouster://127.0.0.1:0?metadata=/nowhere.json", MOUNT)
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not the metadata of an Ouster sensor"):
        OusterDriver.open(f"ouster://127.0.0.1:0?metadata={path}", MOUNT)
