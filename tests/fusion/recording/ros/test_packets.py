"""Bags of an Ouster's raw packets: decoded where the sensor's metadata is with them, else listed."""

import sqlite3

import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.ouster.reader import OusterReader
from fusion.recording.ros.reader import RosReader

core = pytest.importorskip("ouster.sdk.core", reason="needs ouster-sdk: install fusion-stack[formats]")


@pytest.fixture(scope="module")
def turn():
    """A sensor and the packets of two turns."""
    info = core.SensorInfo.from_default(core.LidarMode._512x10)
    info.config.udp_port_lidar, info.config.udp_port_imu = 7502, 7503
    packets = []
    for number in (5, 6):
        frame = core.LidarFrame(info)
        frame.frame_id = number
        frame.field("RANGE")[:] = 5000
        frame.measurement_id[:] = np.arange(512)
        frame.timestamp[:] = number * 10**9 + np.arange(512)
        frame.status[:] = 1
        layout = core.PacketFormat.from_info(info)
        packets += [bytes(p.buf) for p in core.frame_to_packets(frame, layout, info.init_id, info.sn)]
    return info, packets


def drive(m, start, packets, *more, tail=b""):
    kind = "ouster_ros/msg/PacketMsg"
    yield from (("/os" + topic, message, start) for topic, message in more)
    for i, packet in enumerate(packets):
        yield "/os/lidar_packets", m.new(kind, buf=np.frombuffer(packet + tail, np.uint8)), start + i


@pytest.mark.parametrize("tail", [b"", b"\0"], ids=["new", "old driver"])
def test_packets_with_their_metadata_are_sweeps(bags, ros, turn, tail):
    info, packets = turn
    m = bags.messages(ros)
    metadata = ("/metadata", m.text(info.to_json_string()))
    reader = open_recording(bags.write(ros, drive(m, bags.start, packets, metadata, ("/imu", m.text("x")), tail=tail)))
    assert isinstance(reader, OusterReader)
    assert [(c, r.capture_time_ns, len(r.payload.points)) for c, r in reader.readings()] == [
        (1, 5 * 10**9, 64 * 512),
        (2, 6 * 10**9, 64 * 512),
    ]
    assert [c for c, _ in reader.readings(1)] == [2]
    found = reader.info()
    assert found.unread == ("/os/imu (std_msgs/msg/String)",)
    assert found.notes["metadata"] == "/os/metadata"


def test_packets_of_another_size_are_counted(bags, ros, turn):
    info, packets = turn
    m = bags.messages(ros)
    stored = list(drive(m, bags.start, [*packets, packets[0][:100]], ("/metadata", m.text(info.to_json_string()))))
    assert open_recording(bags.write(ros, stored)).info().unread == ("another size's packets (1)",)


def test_a_packet_that_cannot_be_unpacked_is_left_out_alone_and_told(bags, turn):
    info, packets = turn
    m = bags.messages("folder")
    stored = list(drive(m, bags.start, packets, ("/metadata", m.text(info.to_json_string()))))
    folder = bags.write("folder-message-zstd", stored)
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        database.execute("UPDATE messages SET data = ? WHERE id = 4", (b"\x28\xb5\x2f\xfd" + b"\xff" * 99,))
    with pytest.raises(RecordingError, match=r"message 4 \(row 4 of drive.db3\), /os/lidar_packets: .*cannot unpack"):
        open_recording(folder).info()
    reader = open_recording(folder, salvage=True)
    found = reader.info()
    assert "message 4 (row 4 of drive.db3), /os/lidar_packets: " in found.damage
    assert found.damage.count("left out") == 1
    assert [c for c, _ in reader.readings()] == [2], "the first turn is torn where the recording begins"
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        database.execute("UPDATE messages SET data = ? WHERE id = 1", (b"\x28\xb5\x2f\xfd" + b"\xff" * 99,))
    with pytest.raises(RecordingError, match=r"drive: message 1 \(row 1 of drive.db3\), /os/metadata: .*cannot unpack"):
        open_recording(folder)


def test_metadata_that_is_none_is_named(bags, ros, turn):
    m = bags.messages(ros)
    path = bags.write(ros, drive(m, bags.start, turn[1][:2], ("/metadata", m.text("{}"))))
    with pytest.raises(RecordingError, match="not the metadata of an Ouster sensor"):
        open_recording(path)


def test_without_metadata_or_beside_clouds_packets_are_listed(bags, ros, turn):
    m = bags.messages(ros)
    alone = open_recording(bags.write(ros, drive(m, bags.start, turn[1][:2]), "alone"))
    assert isinstance(alone, RosReader)
    assert alone.info().unread == ("/os/lidar_packets (ouster_ros/msg/PacketMsg, a LiDAR's raw packets)",)
    points = np.ones(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    more = [("/metadata", m.text(turn[0].to_json_string())), ("/points", m.cloud(points))]
    both = open_recording(bags.write(ros, drive(m, bags.start, turn[1][:2], *more), "both"))
    assert list(both.info().sensors) == ["os-points"]
