"""Velodyne packets that are made here: what a turn becomes, what is refused, and a sensor on a real port."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.live import datagrams
from edge_node.live.drivers import Mount
from edge_node.live.velodyne import VelodyneDriver
from edge_node.live.velodyne_models import MODELS
from edge_node.live.velodyne_packets import PACKET_BYTES, TurnGatherer, sweep
from fusion.errors import ConfigError, SensorError
from fusion.task import Task
from fusion.types import PointCloud

MODEL = MODELS["vlp16"]
ROOF = Task.load("yard").sensors["roof"]
STEP = 40


def packet(
    azimuth: int, time_us: int, *, mode: int = 0x37, product: int = 0x22, distance: int = 5000, step=STEP
) -> bytes:
    """Twelve blocks from `azimuth` on; of dual returns the even blocks are the given distance and the odd ones half."""
    blocks = b""
    for number in range(12):
        dual = mode == 0x39
        at = (azimuth + step * (number // 2 if dual else number)) % 36_000
        far = distance // 2 if dual and number % 2 else distance
        blocks += struct.pack("<HH", 0xEEFF, at) + struct.pack("<HB", far, 51) * 32
    return blocks + struct.pack("<IBB", time_us % 3_600_000_000, mode, product)


def turns(count: int, *, start: int = 0, time_us: int = 0, **more) -> list[bytes]:
    """`count` turns of 900 blocks and the packet after them."""
    blocks = 6 if more.get("mode") == 0x39 else 12
    block_us = MODEL.block_us
    numbers = range(count * 900 // blocks + 1)
    return [
        packet((start + n * blocks * STEP) % 36_000, time_us + round(n * blocks * block_us), **more) for n in numbers
    ]


def spun(model, hz: float, *, fields=((0, 360),), turns: int = 3) -> list[bytes]:
    """What a sensor at that rate sends while it looks into the `fields` (from, to) in degrees; all is 10 m away."""
    step = 36_000 * hz * model.block_us * 1e-6
    blocks = [
        (round(at % 36_000), at / step * model.block_us)
        for at in np.arange(35_000, 35_000 + turns * 36_000, step)
        if any(low * 100 <= at % 36_000 <= high * 100 for low, high in fields)
    ]
    sent = []
    for number in range(0, len(blocks) - 11, 12):
        block = [struct.pack("<HH", 0xEEFF, at % 36_000) for at, _ in blocks[number : number + 12]]
        time_us = round(blocks[number][1]) % 3_600_000_000
        returns = struct.pack("<HB", 5000, 51) * 32
        sent.append(b"".join(b + returns for b in block) + struct.pack("<IBB", time_us, 0x37, model.product))
    return sent


def gathered(packets, model=MODEL) -> list:
    gatherer = TurnGatherer(model)
    return [turn for number, data in enumerate(packets) for turn in gatherer.push(data, number)]


@pytest.mark.parametrize("mode", [0x37, 0x38, 0x39])
def test_a_turn_is_a_ring_of_points_in_the_sensors_frame(mode):
    found = gathered(turns(3, start=18_000, mode=mode))
    assert len(found) == 2  # the half turn before the first zero is left out
    cloud = sweep(found[0], MODEL)
    assert cloud.points.shape == (900 * 32, 4)
    distance = np.linalg.norm(cloud.points[:, :3], axis=1)
    assert np.abs(distance - 10).max() < 0.02  # metres; beams do not start in the very middle
    assert np.allclose(cloud.points[:, 3], 0.2)
    assert np.allclose(cloud.points[0, :3], [10 * np.cos(np.radians(15)), 0, -10 * np.sin(np.radians(15)) + 0.0112])
    quarter = cloud.points[225 * 32]  # clockwise: to the right, where y is negative
    assert np.allclose(quarter[:2], [0, -10 * np.cos(np.radians(15))], atol=1e-3)
    assert cloud.offsets_s[0] == 0
    assert np.allclose(cloud.offsets_s[-1], (900 * 110.592 - 55.296 + 15 * 2.304) * 1e-6, atol=2e-6)


def test_a_shots_azimuth_is_turned_on_by_when_it_was_fired():
    cloud = sweep(gathered(turns(2, start=35_000))[0], MODEL)
    azimuth = np.degrees(np.arctan2(-cloud.points[:, 1], cloud.points[:, 0])) % 360
    later = azimuth[16:32]  # the second firing of the first block
    assert np.allclose(later, STEP / 100 * (55.296 + np.arange(16) * 2.304) / 110.592, atol=1e-3)


def test_times_run_on_over_the_full_hour():
    cloud = sweep(gathered(turns(3, start=18_000, time_us=3_600_000_000 - 70_000))[0], MODEL)
    assert (np.diff(cloud.offsets_s[::32]) > 0).all()
    assert cloud.offsets_s[-1] < 0.1


@pytest.mark.parametrize(("name", "hz"), [("vlp16", 5), ("vlp16", 10), ("vlp16", 20), ("hdl32e", 10), ("hdl32e", 20)])
def test_a_lost_packet_leaves_its_points_out_and_turns_no_others(name, hz):
    model = MODELS[name]
    packets = spun(model, hz)
    whole = sweep(gathered(packets, model)[0], model)
    del packets[20]
    cloud = sweep(gathered(packets, model)[0], model)
    assert len(cloud.points) == len(whole.points) - 12 * 32
    azimuth = np.degrees(np.unwrap(np.arctan2(-cloud.points[:, 1], cloud.points[:, 0])))
    off = azimuth - cloud.offsets_s * hz * 360
    assert np.ptp(off) < 0.05


@pytest.mark.parametrize("name", ["vlp16", "hdl32e"])
@pytest.mark.parametrize("fields", [((45, 135),), ((10, 190),), ((200, 215),)])
def test_a_restricted_field_of_view_is_a_turn_each_time(name, fields):
    model = MODELS[name]
    found = gathered(spun(model, 10, fields=fields, turns=6), model)
    assert 3 <= len(found) <= 5
    low, high = fields[0]
    for turn in found:
        azimuths = turn.packets["blocks"]["azimuth"].astype(int).ravel()[turn.first :]
        azimuths = azimuths[: len(azimuths) - 12 + turn.end]
        assert (np.diff(azimuths) > 0).all()
        assert abs(azimuths[0] - low * 100) < 50
        assert abs(azimuths[-1] - high * 100) < 50


@pytest.mark.parametrize("late_s", [0.26, 10, 3600])
def test_a_pause_ends_no_turn_and_begins_none(late_s):
    gatherer = TurnGatherer(MODEL)
    found = []
    for number, data in enumerate(turns(8)):
        if 100 <= number < 250:
            continue
        at_us = round(number * 12 * MODEL.block_us + (late_s * 1e6 if number >= 250 else 0))
        stamped = data[:1200] + struct.pack("<I", at_us % 3_600_000_000) + data[1204:]
        found += gatherer.push(stamped, at_us * 1000)
    assert gatherer.refused == {"a turn was interrupted": 25}
    assert found
    assert all(sweep(turn, MODEL).offsets_s.max() < 0.1 for turn in found)
    assert [len(sweep(turn, MODEL).points) for turn in found] == [900 * 32] * len(found)


@pytest.mark.parametrize(("name", "hz"), [("vlp16", 5), ("vlp16", 10), ("vlp16", 20), ("hdl32e", 10)])
@pytest.mark.parametrize("pause", [0.3, 0.97, 1.02, 1.4, 1.8, 2.5])
def test_no_pause_joins_two_turns(name, hz, pause):
    """However long it is, in turns, and wherever in a turn the packets cease."""
    model = MODELS[name]
    packets = spun(model, hz, turns=7)
    times_us = [struct.unpack_from("<I", data, 1200)[0] for data in packets]
    a_turn = round(len(packets) / 7)
    for begin in (a_turn, round(1.4 * a_turn), round(1.8 * a_turn)):
        heard = [d for d, us in zip(packets, times_us, strict=True) if not 0 < us - times_us[begin] < pause * 1e6 / hz]
        gatherer = TurnGatherer(model)
        found = [turn for number, data in enumerate(heard) for turn in gatherer.push(data, number)]
        assert found
        assert max(float(np.ptp(sweep(turn, model).offsets_s)) for turn in found) < 1.01 / hz
        assert ("a turn was interrupted" in gatherer.refused) is (pause > 1)


@pytest.mark.parametrize("hz", [5, 10, 20])
@pytest.mark.parametrize("field", [(100, 110), (0, 360)])
def test_no_field_of_view_is_taken_for_a_pause(hz, field):
    gatherer = TurnGatherer(MODEL)
    packets = spun(MODEL, hz, fields=(field,), turns=12)
    found = [turn for number, data in enumerate(packets) for turn in gatherer.push(data, number)]
    assert not gatherer.refused
    assert found


def test_a_host_that_is_late_loses_no_turn():
    gatherer = TurnGatherer(MODEL)
    late = [(data, 10**9 + number * 1_327_000 + 400_000_000 * (number > 100)) for number, data in enumerate(turns(3))]
    assert len([turn for data, at_ns in late for turn in gatherer.push(data, at_ns)]) == 2
    assert not gatherer.refused


def test_a_packet_that_another_overtook_ends_no_turn():
    packets = turns(3)
    packets[100:102] = packets[101], packets[100]
    gatherer = TurnGatherer(MODEL)
    found = [turn for number, data in enumerate(packets) for turn in gatherer.push(data, number)]
    assert [len(sweep(turn, MODEL).points) for turn in found] == [(900 - 12) * 32, 900 * 32]
    assert gatherer.refused == {"out of order": 1}


def test_a_sensor_that_stands_still_holds_no_memory():
    gatherer = TurnGatherer(MODEL)
    for time_us in range(0, 3_000_000, 1000):
        assert not list(gatherer.push(packet(0 if time_us else 35_900, time_us, step=0), 0))
    assert gatherer.refused["the sensor does not turn"] == 2048


@given(st.one_of(st.binary(max_size=1300), st.binary(min_size=PACKET_BYTES, max_size=PACKET_BYTES)))
def test_any_other_bytes_are_counted(data):
    gatherer = TurnGatherer(MODEL)
    assert not list(gatherer.push(data, 0))
    assert sum(gatherer.refused.values()) == (len(data) != 512)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_packet_with_any_values_is_read_or_refused(data):
    gatherer = TurnGatherer(MODEL)
    for good in turns(1, start=18_000):
        whole = bytearray(good)
        if data.draw(st.booleans()):
            continue
        for place, value in data.draw(st.lists(st.tuples(st.integers(0, 1205), st.integers(0, 255)), max_size=3)):
            whole[place] = value
        for turn in gatherer.push(bytes(whole), 0):
            cloud = sweep(turn, MODEL)
            assert np.isfinite(cloud.points).all()
            assert len(cloud.points) == len(cloud.offsets_s)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_model_has_32_returns_a_block(name):
    model = MODELS[name]
    assert {len(model.delays_us), len(model.elevation), len(model.height)} == {32}
    assert len(set(model.elevation_deg)) == len(model.elevation_deg)
    wrong = gathered(turns(2, product=0x99), model)
    assert not wrong


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
