"""Velodyne packets that are made here: what a turn becomes, and what is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.recording.velodyne.models import MODELS
from fusion.recording.velodyne.packets import PACKET_BYTES
from fusion.recording.velodyne.sweeps import sweep
from fusion.recording.velodyne.synthetic import STEP, packet, turns
from fusion.recording.velodyne.turns import TurnGatherer

MODEL = MODELS["vlp16"]


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


def test_a_packet_that_comes_twice_counts_once():
    packets = [data for data in turns(2) for _ in range(2)]
    gatherer = TurnGatherer(MODEL)
    found = [turn for number, data in enumerate(packets) for turn in gatherer.push(data, number)]
    assert [len(sweep(turn, MODEL).points) for turn in found] == [900 * 32] * len(found)
    assert len(found) == 1
    assert gatherer.refused == {"twice": len(packets) // 2}


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
