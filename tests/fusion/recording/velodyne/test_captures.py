"""Captures of Velodynes: which sensor and model they are of, turns as from a live one, damage told."""

from __future__ import annotations

import struct
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording import base
from fusion.recording.inspect import Inspection
from fusion.recording.ouster.reader import OusterReader
from fusion.recording.velodyne.reader import VelodyneReader
from fusion.recording.velodyne.synthetic import packet, turns
from fusion.task import Task
from fusion.types import Modality

DATA = Path(__file__).parents[4] / "../shared/data/ouster_pcap"
START_NS = 1_700_000_000_123_456_000
PACKET_NS = 1_327_104
HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)


def frame(data: bytes, sender: str = "192.168.1.201", port: int = 2368, *, vlan: bool = False) -> bytes:
    """A UDP datagram on an Ethernet."""
    udp = struct.pack(">HHHH", 2368, port, 8 + len(data), 0) + data
    address = bytes(map(int, sender.split(".")))
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, address, b"\xff" * 4)
    return bytes(12) + (b"\x81\x00\x00\x05" if vlan else b"") + b"\x08\x00" + ip + udp


def write(path: Path, frames, head: bytes = HEAD, unit_ns: int = 1000) -> Path:
    """A capture of `frames`, one after the other as a VLP-16 sends."""
    body = b""
    for number, data in enumerate(frames):
        seconds, rest = divmod(START_NS + number * PACKET_NS, 10**9)
        body += struct.pack("<IIII", seconds, rest // unit_ns, len(data), len(data)) + data
    path.write_bytes(head + body)
    return path


def opened(path: Path, split: str | None = None, *, salvage: bool = False, task: Task | None = None) -> VelodyneReader:
    """As `open_recording` does, with the reader that claims the file."""
    assert (VelodyneReader.can_read(path), OusterReader.can_read(path)) == (True, False)
    return VelodyneReader.open(path, task, split, salvage=salvage)


@pytest.fixture
def drive(tmp_path) -> Path:
    """Three turns from the middle of one on."""
    return write(tmp_path / "drive.pcap", [frame(data) for data in turns(4, start=18_000)])


def test_it_is_found_among_the_formats():
    (point,) = (p for p in entry_points(group=base.GROUP) if p.name == "velodyne")
    assert point.load() is VelodyneReader


def test_a_turn_is_a_sweep_at_the_time_its_first_packet_was_captured(drive):
    reader = opened(drive)
    info = reader.info()
    lidar = info.sensors["velodyne"]
    assert (info.format, lidar.modality, lidar.source, lidar.count) == ("velodyne", Modality.LIDAR, "vlp16", 3)
    assert lidar.rate_hz == pytest.approx(10, rel=0.02)
    assert np.array_equal(info.rig.ego_from_lidar["velodyne"], np.eye(4))
    assert info.notes["sensor"] == "vlp16 at 192.168.1.201:2368, strongest return"
    assert info.notes["torn turns"].startswith("76 packets left out")  # half a turn before, half a turn after
    assert info.unread == ()
    found = list(reader.readings())
    assert [cursor for cursor, _ in found] == [1, 2, 3]
    assert [(r.capture_time_ns - START_NS) / PACKET_NS for _, r in found] == pytest.approx([37, 112, 187], abs=0.001)
    for _, reading in found:
        assert reading.payload.points.shape == (900 * 32, 4)
        assert 0 == reading.payload.offsets_s.min() < reading.payload.offsets_s.max() < 0.1
    assert reader.sizes() == {"velodyne": 3 * 76 * 1206}
    assert list(reader.truth()) == []
    assert "vlp16 at 192.168.1.201:2368" in str(Inspection(info, reader.sizes(), {}))


def test_reading_goes_on_after_any_cursor(drive):
    whole = [(c, r.capture_time_ns, r.payload.points.tobytes()) for c, r in opened(drive).readings()]
    for cursor in range(5):
        rest = [(c, r.capture_time_ns, r.payload.points.tobytes()) for c, r in opened(drive).readings(cursor)]
        assert rest == whole[cursor:]


def test_of_two_sensors_one_must_be_chosen(tmp_path):
    near, far = turns(2, start=35_000), turns(2, start=35_000, distance=10_000, product=0x24)
    frames = [f for n, m in zip(near, far, strict=True) for f in (frame(n), frame(m, "192.168.1.202", 2369))]
    path = write(tmp_path / "two.pcap", frames)
    there = r"192.168.1.201:2368 \(vlp16\), 192.168.1.202:2369 \(puck-hires\)"
    with pytest.raises(RecordingError, match=f"several sensors in it; choose one as split, ADDRESS:PORT; .*{there}"):
        opened(path)
    with pytest.raises(RecordingError, match=f"no Velodyne 10.0.0.1; .*{there}"):
        opened(path, "10.0.0.1")
    for split, model in (("192.168.1.201", "vlp16"), (":2368", "vlp16"), ("192.168.1.202:2369", "puck-hires")):
        info = opened(path, split).info()
        assert info.sensors["velodyne"].source == model
        assert info.unread == (f"another sensor's packets ({len(near)})",)


@pytest.mark.parametrize("split", ["?modle=vlp16", "a/b", ":port", ":99999", "[", "?model=vlp61"])
def test_a_split_that_is_none_is_told(drive, split):
    with pytest.raises(RecordingError, match=r"is no ADDRESS:PORT\?model=NAME|model 'vlp61' is not known"):
        opened(drive, split)


def test_a_model_that_is_not_known_is_asked_for(tmp_path):
    path = write(tmp_path / "a.pcap", [frame(data) for data in turns(2, start=35_000, product=0, mode=0)])
    with pytest.raises(RecordingError, match=r"product id 0x00, of no model .* give it as split, '\?model=NAME'"):
        opened(path)
    reader = opened(path, "?model=vlp16")
    assert reader.info().notes["sensor"].endswith("returns of an unknown mode, the model as told")
    assert [len(r.payload.points) for _, r in reader.readings()] == [900 * 32]


def test_what_is_no_data_of_the_sensor_is_counted(tmp_path):
    frames = [frame(data, vlan=True) for data in turns(2, start=35_000)]
    tcp, fragment = bytearray(frames[0]), bytearray(frame(b"x" * 99))
    tcp[27] = 6
    fragment[20] = 0x20
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    frames[10:10] = [bytes(tcp), arp, bytes(fragment), frame(bytes(512)), frame(b"?", port=53), frame(b"?"), arp[:13]]
    frames[30:30] = [frames[20]]
    info = opened(write(tmp_path / "a.pcap", frames)).info()
    assert info.unread == (
        "fragmented packets (1)",
        "non-UDP packets (2)",
        "other UDP packets (1)",
        "position packets (1)",
        "truncated packets (1)",
    )
    assert info.notes["left out"] == "1 packets: out of order, 1 packets: size"
    assert info.sensors["velodyne"].count == 1


def test_nanoseconds_and_bare_ip_are_read(tmp_path):
    frames = [frame(data)[14:] for data in turns(2, start=35_000)]
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 101)
    ((_, reading),) = opened(write(tmp_path / "a.pcap", frames, head, 1)).readings()
    assert (reading.capture_time_ns - START_NS) % PACKET_NS == 0


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def newer_head(option: bytes) -> bytes:
    """The blocks of a section and its interface."""
    return block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(
        1, struct.pack("<HHI", 1, 0, 0) + option
    )


@pytest.mark.parametrize(
    ("option", "ticks"),
    [
        (b"\x09\0\1\0\0\0\0\0", 1 << 62),
        (b"\x0e\0\x08\0" + struct.pack("<q", 1 << 60), 5),
        (b"\x0e\0\x08\0" + struct.pack("<q", -9), 5),
    ],
)
def test_times_that_no_clock_tells_are_none(tmp_path, option, ticks):
    content = newer_head(b"") + block(1, struct.pack("<HHI", 1, 0, 0) + option)
    frames = list(map(frame, turns(2, start=35_000)))
    stamps = [(0, (START_NS + number * PACKET_NS) // 1000) for number in range(len(frames))] + [(1, ticks)]
    for (interface, stamp), data in zip(stamps, [*frames, frames[0]], strict=True):
        head = struct.pack("<IIIII", interface, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        content += block(6, head + data)
    path = tmp_path / "a.pcapng"
    path.write_bytes(content)
    info = opened(path).info()
    assert info.sensors["velodyne"].count == 1
    assert info.unread == ("untimed packets (1)",)


@pytest.mark.parametrize(
    ("ticks", "option"), [(10**6, b""), (10**9, b"\x09\0\1\0\x09\0\0\0"), (2**20, b"\x09\0\1\0\x94\0\0\0")]
)
def test_the_newer_format_is_read_with_its_clocks(tmp_path, ticks, option):
    content = newer_head(option)
    for number, data in enumerate(map(frame, turns(2, start=35_000))):
        stamp = (START_NS + number * PACKET_NS) * ticks // 10**9
        content += block(6, struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)) + data)
    content += block(3, struct.pack("<I", 99) + frame(b"no time"))
    path = tmp_path / "a.pcapng"
    path.write_bytes(content)
    reader = opened(path)
    ((_, reading),) = reader.readings()
    assert reading.capture_time_ns == pytest.approx(START_NS + 2 * PACKET_NS, abs=1000)
    assert reader.info().unread == ("untimed packets (1)",)


def test_a_cut_capture_is_refused_and_salvaged_up_to_there(drive):
    content = drive.read_bytes()
    drive.write_bytes(content[:-1000])
    with pytest.raises(RecordingError, match=r"drive.pcap: damaged at byte \d+: it ends inside a packet; 300 packets"):
        opened(drive)
    reader = opened(drive, salvage=True)
    assert "300 packets before it are sound" in reader.info().damage
    assert len(list(reader.readings())) == 3


def test_a_capture_of_less_than_a_turn_says_so(tmp_path):
    reader = opened(write(tmp_path / "a.pcap", [frame(data) for data in turns(1)[:50]]))
    assert reader.info().sensors["velodyne"].count == 0
    with pytest.raises(RecordingError, match="no whole turn of the sensor in it"):
        next(reader.readings())


def test_the_task_must_have_the_sensor(drive):
    with pytest.raises(RecordingError, match=r"no sensor of task yard .*; it has velodyne"):
        opened(drive, task=Task.load("yard"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 255)), max_size=12),
    size=st.integers(0, 100_000),
    split=st.one_of(st.none(), st.text(max_size=12), st.just("?model=hdl32e")),
)
def test_a_changed_capture_raises_nothing_but_our_errors(drive, tmp_path, changes, size, split):
    content = bytearray(drive.read_bytes()[:size])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    path = tmp_path / "changed.pcap"
    path.write_bytes(content)
    for salvage in (False, True):
        with suppress(RecordingError):
            reader = VelodyneReader.open(path, None, split, salvage=salvage)
            reader.info()
            for _, reading in reader.readings():
                assert np.isfinite(reading.payload.points).all()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=4), st.sampled_from([0, 1, 12, 101, 113, 276, 147]))
def test_any_packets_are_no_traceback(tmp_path, frames, link):
    head = HEAD[:20] + struct.pack("<I", link)
    path = write(tmp_path / "a.pcap", [*frames, frame(packet(0, 0))], head)
    with suppress(RecordingError):
        VelodyneReader.open(path, None, None, salvage=True).info()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", HEAD, b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a"]), st.binary(max_size=300))
def test_any_bytes_are_no_traceback(tmp_path, head, content):
    path = tmp_path / "a.pcap"
    path.write_bytes(head + content)
    assert not VelodyneReader.can_read(path)
    for salvage in (False, True):
        with suppress(RecordingError):
            VelodyneReader.open(path, None, None, salvage=salvage)


@pytest.mark.parametrize("name", ["OS-1-128_v2.3.0_1024x10_lb_n3", "OS-0-32-U1_v2.2.0_1024x10"])
def test_a_real_capture_of_an_ouster_is_not_claimed(name):
    path = DATA / f"{name}.pcap"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert (VelodyneReader.can_read(path), OusterReader.can_read(path)) == (False, True)
