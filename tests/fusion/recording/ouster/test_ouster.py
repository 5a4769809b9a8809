"""Ouster captures: turns become sweeps, torn and damaged ones are told, and the metadata that fits is found."""

import itertools
import json
import shutil
import struct
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.ouster.reader import OusterReader
from fusion.recording.ouster.scans import frames
from fusion.recording.ros.reader import RosReader
from fusion.task import Task
from fusion.types import Modality

core = pytest.importorskip("ouster.sdk.core", reason="needs ouster-sdk: install fusion-stack[formats]")
DATA = Path(__file__).parents[4] / "../shared/data/ouster_pcap"
SCANS = 4
TURN_NS = 100_000_000
BOOT_NS = 1_000_000_000_000
HOST_NS = 1_700_000_000_000_000_000


def sensor(number=0):
    info = core.SensorInfo.from_default(core.LidarMode._512x10)
    info.config.udp_port_lidar, info.config.udp_port_imu = 7502, 7503
    info.sn = number
    return info


def turns(info, count=SCANS, start_ns=BOOT_NS):
    """Packets by turn: everything is 5 m away and of reflectivity 51, but beam 0 sees nothing."""
    layout = core.PacketFormat.from_info(info)
    made = []
    for turn in range(count):
        frame = core.LidarFrame(info)
        frame.frame_id = 700 + turn
        frame.field("RANGE")[1:] = 5000 + turn
        frame.field("REFLECTIVITY")[:] = 51
        frame.timestamp[:] = start_ns + turn * TURN_NS + np.arange(512) * (TURN_NS // 512)
        frame.measurement_id[:] = np.arange(512)
        frame.status[:] = 1
        made.append([bytes(p.buf) for p in core.frame_to_packets(frame, layout, info.init_id, info.sn)])
    return made


def write_capture(path, packets, port=7502):
    from ouster.sdk._bindings import pcap

    handle = pcap.record_initialize(str(path), 65000)
    for i, packet in enumerate(packets):
        data = np.frombuffer(packet, np.uint8)
        pcap.record_packet(handle, "10.0.0.5", "10.0.0.1", port, port, data, HOST_NS / 1e9 + i * 1e-3)
    pcap.record_uninitialize(handle)


@pytest.fixture
def capture(tmp_path):
    """Writes packets with the sensor's metadata beside them; returns the capture."""

    def write(packets, info=None, name="drive"):
        path = tmp_path / f"{name}.pcap"
        write_capture(path, packets)
        path.with_suffix(".json").write_text((info or sensor()).to_json_string())
        return path

    return write


def flat(groups):
    return [packet for group in groups for packet in group]


def test_a_turn_is_a_sweep(capture):
    reader = open_recording(capture(flat(turns(sensor()))))
    assert isinstance(reader, OusterReader)
    info = reader.info()
    lidar = info.sensors["ouster"]
    assert (lidar.modality, lidar.count, round(lidar.rate_hz)) == (Modality.LIDAR, SCANS, 10)
    assert np.array_equal(info.rig.ego_from_lidar["ouster"], np.eye(4))
    assert "not UTC (it begins at 1000.000 s)" in info.notes["clock"]
    assert info.notes["recorded"].startswith("from 2023-11-14 22:13:20 UTC")
    assert info.notes["intensity of ouster"] == "field REFLECTIVITY / 255"
    assert "torn turns" not in info.notes
    readings = list(reader.readings())
    assert [(c, r.capture_time_ns) for c, r in readings] == [(i + 1, BOOT_NS + i * TURN_NS) for i in range(SCANS)]
    for i, (_, reading) in enumerate(readings):
        cloud = reading.payload
        assert cloud.points.shape == (63 * 512, 4), "the beam without a return is left out"
        assert cloud.points.dtype == np.float32
        distance = np.linalg.norm(cloud.points[:, :3] - [0, 0, 0.036], axis=1)
        assert np.abs(distance - 5 - i / 1000).max() < 0.02
        assert np.allclose(cloud.points[:, 3], 0.2)
        assert (cloud.offsets_s.min(), cloud.offsets_s.dtype) == (0, np.float32)
        assert cloud.offsets_s.max() == pytest.approx(0.1 * 511 / 512, rel=1e-3)
    assert reader.sizes() == {"ouster": SCANS * 32 * 12608}
    assert list(reader.truth()) == []


def test_reading_goes_on_after_any_cursor_without_decoding_what_is_before(capture, monkeypatch):
    reader = open_recording(capture(flat(turns(sensor()))))
    whole = [(c, r.capture_time_ns, r.payload.points.tobytes()) for c, r in reader.readings()]
    from fusion.recording.ouster.scans import ScanMaker

    decoded = []
    real = ScanMaker.scan
    monkeypatch.setattr(ScanMaker, "scan", lambda self, frame: decoded.append(frame.number) or real(self, frame))
    for cursor in range(SCANS + 2):
        decoded.clear()
        assert [(c, r.capture_time_ns, r.payload.points.tobytes()) for c, r in reader.readings(cursor)] == whole[
            cursor:
        ]
        assert decoded == list(range(cursor + 1, SCANS + 1))


def test_a_clock_since_1970_is_said(capture):
    reader = open_recording(capture(flat(turns(sensor(), start_ns=HOST_NS))))
    assert reader.info().notes["clock"].startswith("since 1970")
    assert next(reader.readings())[1].capture_time_ns == HOST_NS


def test_turns_the_capture_begins_or_ends_in_are_left_out_and_told(capture):
    groups = turns(sensor())
    packets = groups[0][20:] + groups[1] + groups[2] + groups[3][:5]
    reader = open_recording(capture(packets))
    assert [c for c, _ in reader.readings()] == [2, 3]
    info = reader.info()
    assert info.sensors["ouster"].count == 2
    assert info.notes["torn turns"].startswith("2 left out")


def test_a_turn_with_lost_packets_is_read_and_told(capture):
    groups = turns(sensor())
    packets = groups[0] + groups[1][:10] + groups[1][12:] + groups[2]
    reader = open_recording(capture(packets))
    sizes = [len(r.payload.points) for _, r in reader.readings()]
    assert sizes == [63 * 512, 63 * 480, 63 * 512]
    assert reader.info().notes["gaps"].startswith("1 turns lack columns")


def test_a_late_packet_and_those_of_another_sensor_are_counted(capture):
    groups, other = turns(sensor()), [packet[:-16] for packet in turns(sensor(), 1)[0][:3]]
    packets = groups[0][:-1] + other + groups[1][:1] + groups[0][-1:] + groups[1][1:] + groups[2]
    info = open_recording(capture(packets)).info()
    assert info.unread == ("another sensor's packets (3)", "late packets (1)")


def test_a_turn_whose_number_stands_still_is_not_gathered_without_end(capture):
    """A sensor that is stuck or a forger on the network must not fill the memory."""
    groups = turns(sensor())
    stuck = groups[1] * 5
    info = open_recording(capture(flat([groups[0], stuck, groups[2], groups[3]]))).info()
    assert info.unread == (f"endless turn's packets ({3 * len(groups[1])})",)
    assert info.sensors["ouster"].count == SCANS
    endless, others = itertools.repeat(SimpleNamespace(frame_id=lambda: 7), 10_000), Counter()
    (frame,) = frames(endless, others, 64)
    assert (len(frame.packets), others) == (64, {"endless turn's": 10_000 - 64})


def test_a_capture_of_less_than_a_turn_says_so(capture):
    reader = open_recording(capture(turns(sensor())[0][:7]))
    with pytest.raises(RecordingError, match="no whole turn of the sensor in it"):
        next(reader.readings())
    assert reader.info().sensors["ouster"].count == 0


def test_the_metadata_that_fits_is_found(capture, tmp_path):
    path = capture(flat(turns(sensor())))
    named = path.with_suffix(".json")
    for name, content in {"a.json": "{}", "b.json": "no json", "c.json": json.dumps([1])}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nothing")
    assert open_recording(path).info().notes["metadata"] == "drive.json"
    other = named.rename(tmp_path / "sensor.json")
    assert open_recording(path).info().notes["metadata"] == "sensor.json"
    shutil.copy(other, tmp_path / "again.json")
    with pytest.raises(RecordingError, match=r"again.json, sensor.json fit its packets alike; .* drive.json"):
        open_recording(path)
    shutil.copy(other, named)
    assert open_recording(path).info().notes["metadata"] == "drive.json", "its own name goes first"


def test_without_metadata_it_is_said_what_to_do(capture):
    path = capture(flat(turns(sensor())))
    path.with_suffix(".json").unlink()
    with pytest.raises(RecordingError, match=r"no metadata JSON beside it fits; call it drive.json"):
        open_recording(path)


def test_the_task_must_have_the_sensor(capture):
    with pytest.raises(RecordingError, match=r"no sensor of task yard .*; it has ouster"):
        open_recording(capture(flat(turns(sensor(), 1))), Task.load("yard"))


def test_a_cut_capture_is_refused_and_salvaged_up_to_there(capture, tmp_path):
    path = capture(flat(turns(sensor())))
    whole = path.read_bytes()
    full = [c for c, _ in open_recording(path).readings()]
    for size in (0, 3, 20, 24 + 7, 24 + 16 + 100, 12_650, 40 * 12_000, 100 * 12_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordingError, match=r"damaged at byte \d+: .* \d+ packets before it are sound") as caught:
            open_recording(path)
        assert str(caught.value).startswith(f"{path}: ")
        if size > 12_650:
            reader = open_recording(path, salvage=True)
            assert "are sound" in reader.info().damage
            rest = [] if size < 33 * 12_000 else [c for c, _ in reader.readings()]
            assert rest == full[: len(rest)]


def test_a_capture_in_the_newer_format_is_read(capture):
    path = capture(flat(turns(sensor(), 2)))
    data, at, blocks = path.read_bytes(), 24, []
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    for kind, body in ((0x0A0D0D0A, section), (1, struct.pack("<HHI", 1, 0, 0))):
        blocks.append(struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12))
    while at < len(data):
        seconds, micros, length, _ = struct.unpack_from("<IIII", data, at)
        stamp = seconds * 1_000_000 + micros
        body = (
            struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, length, length) + data[at + 16 : at + 16 + length]
        )
        body += bytes(-len(body) % 4)
        blocks.append(struct.pack("<II", 6, len(body) + 12) + body + struct.pack("<I", len(body) + 12))
        at += 16 + length
    newer = path.with_suffix(".pcapng")
    newer.write_bytes(b"".join(blocks))
    assert [len(r.payload.points) for _, r in open_recording(newer).readings()] == [63 * 512] * 2
    newer.write_bytes(b"".join(blocks)[:-100])
    with pytest.raises(RecordingError, match="it ends inside a packet; 63 packets before it are sound"):
        open_recording(newer)


@pytest.mark.parametrize("content", [b"", b"no capture", b"\xd4\xc3\xb2\xa1" + bytes(10)])
def test_what_is_no_capture_is_named(tmp_path, content):
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"a.pcap: damaged at byte 0"):
        open_recording(path)


@pytest.fixture(scope="module")
def packets():
    """Two turns, to be damaged."""
    return flat(turns(sensor(), 2))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_packets_raise_nothing_but_our_errors(packets, capture, data):
    changed = [bytearray(packet) for packet in packets]
    for _ in range(data.draw(st.integers(1, 20))):
        packet = data.draw(st.sampled_from(changed))
        packet[data.draw(st.integers(0, data.draw(st.sampled_from([20, 200, len(packet) - 1]))))] = data.draw(
            st.integers(0, 255)
        )
    with suppress(RecordingError):
        reader = open_recording(capture([bytes(packet) for packet in changed]))
        reader.info()
        for _, reading in reader.readings():
            assert np.isfinite(reading.payload.points).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=8), size=st.integers(0, 60_000))
def test_a_changed_capture_raises_nothing_but_our_errors(packets, capture, changes, size):
    path = capture(packets[:4])
    content = bytearray(path.read_bytes()[:size])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    path.write_bytes(content)
    for salvage in (False, True):
        with suppress(RecordingError):
            open_recording(path, salvage=salvage).info()


def test_the_library_leaves_sqlite_alone_and_is_asked_for(capture, monkeypatch):
    import sqlite3

    path = capture(flat(turns(sensor(), 1)))
    connect = sqlite3.connect
    open_recording(path)
    assert sqlite3.connect is connect
    for name in [name for name in sys.modules if name.startswith("ouster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ouster.sdk", None)
    with pytest.raises(RecordingError, match=r"install fusion-stack\[formats\]"):
        open_recording(path)


CAPTURES = {
    "OS-1-128_v2.3.0_1024x10_lb_n3": ("OS-1-128_v2.3.0_1024x10.json", [107_647, 107_357, 107_532]),
    "OS-2-128-U1_v2.3.0_1024x10": ("OS-2-128-U1_v2.3.0_1024x10.json", [119_682]),
    "OS-0-32-U1_v2.2.0_1024x10": ("OS-0-32-U1_v2.2.0_1024x10.json", [21_631]),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_the_real_captures_have_the_returns_they_should(name):
    path = DATA / f"{name}.pcap"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    metadata, returns = CAPTURES[name]
    reader = open_recording(path)
    info = reader.info()
    assert info.notes["metadata"] == metadata
    assert len(info.unread) == 1
    assert info.unread[0].startswith("Imu packets")
    readings = [r for _, r in reader.readings()]
    assert [len(r.payload.points) for r in readings] == returns
    assert ("second returns" in info.notes) is name.startswith("OS-0")
    for reading in readings:
        assert 0 == reading.payload.offsets_s.min() < reading.payload.offsets_s.max() < 0.1
        assert 2 < np.median(np.linalg.norm(reading.payload.points[:, :3], axis=1)) < 40


def test_the_real_bag_of_packets_is_read():
    path = DATA / "512x10_raw.bag"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    reader = open_recording(path)
    assert isinstance(reader, OusterReader)
    ((cursor, reading),) = list(reader.readings())
    assert (cursor, len(reading.payload.points)) == (1, 28_751)
    info = reader.info()
    assert info.unread == ("/os_node0/imu_packets (ouster_ros/msg/PacketMsg)",)
    assert info.notes["metadata"] == "/os_node0/metadata"
    assert not isinstance(reader, RosReader)
