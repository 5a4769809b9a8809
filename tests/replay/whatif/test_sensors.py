"""Sensors with faults: only what is asked for changes, the same way every time, and in the order of arrival."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import Rig, apply
from fusion.types import AudioChunk, Image, Modality, PointCloud, Reading
from replay.whatif.sensors import SPEECH_DBFS, altered, altered_rig, spoil
from replay.whatif.world import SensorFault, WorldSettings

MS = 10**6


def world(seed=0, **sensors):
    return WorldSettings(seed=seed, sensors={name: SensorFault(**fault) for name, fault in sensors.items()})


def same(one, other):
    return all(
        (a, left.sensor, left.capture_time_ns) == (b, right.sensor, right.capture_time_ns)
        and content(left).tobytes() == content(right).tobytes()
        for (a, left), (b, right) in zip(one, other, strict=True)
    )


def content(reading):
    payload = reading.payload
    return payload.pixels if isinstance(payload, Image) else getattr(payload, "points", getattr(payload, "pcm", None))


@pytest.fixture(scope="module")
def readings(draw):
    return list(draw.recording(6, width=64, height=48).readings())


def test_a_world_without_faults_changes_nothing(readings):
    assert all(a is b for a, b in zip(altered(readings, world(), "c"), readings, strict=True))
    untouched = [r for r in altered(readings, world(mic={"snr_db": 10}), "c") if r[1].sensor != "mic"]
    assert untouched == [r for r in readings if r[1].sensor != "mic"]


def test_faults_hang_on_seed_recording_and_position_alone(readings):
    faults = {"front": {"noise": 5, "drop": 0.3}, "roof": {"range_noise_m": 0.1}, "mic": {"snr_db": 3}}
    one = list(altered(readings, world(**faults), "c"))
    assert same(one, list(altered(readings, world(**faults), "c")))
    assert same([r for r in one if r[0] > 6], list(altered(readings[6:], world(**faults), "c")))
    for other in (altered(readings, world(seed=1, **faults), "c"), altered(readings, world(**faults), "d")):
        drawn = list(other)
        assert len(drawn) != len(one) or not same(one, drawn)


def test_removed_and_dropped_readings_are_gone(readings):
    left = list(altered(readings, world(roof={"removed": True}), "c"))
    assert {r.sensor for _, r in left} == {"front", "mic"}
    many = [(n, replace(readings[0][1], payload=Image(np.zeros((2, 2, 3), np.uint8)))) for n in range(1, 2001)]
    kept = list(altered(many, world(front={"drop": 0.25}), "c"))
    assert 0.7 < len(kept) / 2000 < 0.8


def test_a_clock_that_is_off_shifts_stamps_and_no_order(readings):
    moved = list(altered(readings, world(roof={"clock_ms": -40}), "c"))
    assert [cursor for cursor, _ in moved] == [cursor for cursor, _ in readings]
    for (_, before), (_, after) in zip(readings, moved, strict=True):
        shift = -40 * MS if before.sensor == "roof" else 0
        assert after.capture_time_ns == before.capture_time_ns + shift


@given(
    st.lists(st.tuples(st.sampled_from(["front", "roof", "mic"]), st.integers(0, 30)), max_size=40),
    st.integers(1, 120),
    st.sampled_from([0, 35]),
)
def test_late_readings_come_when_the_stream_is_that_far(drawn, late_ms, other_ms):
    """Each once, with its own stamp, those of one sensor in order; and no earlier than its lateness."""
    now, made = 10**9, []
    for cursor, (sensor, step) in enumerate(drawn, 1):
        now += step * MS
        made.append((cursor, Reading(sensor, Modality.LIDAR, now, PointCloud(np.zeros((0, 4), np.float32)))))
    faults = world(roof={"late_ms": late_ms}, mic={"late_ms": other_ms})
    came = list(altered(made, faults, "c"))
    assert sorted(cursor for cursor, _ in came) == [cursor for cursor, _ in made]
    for name in ("front", "roof", "mic"):
        mine = [cursor for cursor, r in came if r.sensor == name]
        assert mine == sorted(mine)
    late = {"front": 0, "roof": late_ms * MS, "mic": other_ms * MS}
    due = {cursor: r.capture_time_ns + late[r.sensor] for cursor, r in came}
    front = [(place, r.capture_time_ns) for place, (_, r) in enumerate(came) if r.sensor == "front"]
    for place, (cursor, _) in enumerate(came):
        assert all(stamp < due[cursor] for at, stamp in front if at < place and due[cursor] > stamp)
        assert all(stamp >= due[cursor] for at, stamp in front if at > place and stamp != due[cursor])


def test_a_clock_that_is_set_back_ends_the_waiting(readings):
    first, roof, *_ = (r for _, r in readings)
    second = replace(first, capture_time_ns=first.capture_time_ns - 10**12)
    came = altered([(1, first), (2, roof), (3, second)], world(roof={"late_ms": 500}), "c")
    assert [cursor for cursor, _ in came] == [1, 2, 3]


def rng():
    return np.random.default_rng(3)


def test_camera_faults():
    pixels = np.full((40, 50, 3), (200, 100, 50), np.uint8)
    image = Image(pixels, b"jpeg", "jpeg")
    assert spoil(image, SensorFault(), rng()) is image
    swapped = spoil(image, SensorFault(swapped=True), rng())
    assert swapped.pixels[0, 0].tolist() == [50, 100, 200]
    assert swapped.encoded is None
    assert spoil(image, SensorFault(exposure=2.0), rng()).pixels[0, 0].tolist() == [255, 200, 100]
    noisy = spoil(image, SensorFault(noise=8), rng()).pixels[:, :, 1].astype(float)
    assert noisy.std() == pytest.approx(8, rel=0.1)
    pixels[:, 25:] = 0
    edge = np.diff(spoil(image, SensorFault(blur_px=3), rng()).pixels[20, :, 0].astype(float))
    assert abs(edge).max() < 60 < abs(np.diff(pixels[20, :, 0].astype(float))).max()


def test_lidar_faults():
    angles = rng().uniform(-3, 3, 5000)
    points = np.stack([20 * np.cos(angles), 20 * np.sin(angles), 0 * angles, angles], 1).astype(np.float32)
    cloud = PointCloud(points, np.arange(5000, dtype=np.float32), np.arange(5000).astype(np.uint16))
    noisy = spoil(cloud, SensorFault(range_noise_m=0.5), rng()).points
    ranges = np.linalg.norm(noisy[:, :3], axis=1)
    assert ranges.std() == pytest.approx(0.5, rel=0.05)
    assert np.allclose(np.arctan2(noisy[:, 1], noisy[:, 0]), angles, atol=1e-4)
    assert (noisy[:, 3] == points[:, 3]).all()
    thin = spoil(cloud, SensorFault(drop_points=0.4), rng())
    assert len(thin.points) == len(thin.offsets_s) == len(thin.labels) == pytest.approx(3000, rel=0.05)
    assert (thin.points == points[thin.labels]).all()


def test_microphone_noise_is_measured_from_the_nominal_level_of_speech():
    silence = AudioChunk(np.zeros(16000, np.int16), 16000)
    heard = spoil(silence, SensorFault(snr_db=6.0), rng()).pcm.astype(float)
    assert 20 * np.log10(heard.std() / 32768) == pytest.approx(SPEECH_DBFS - 6, abs=0.2)
    assert spoil(silence, SensorFault(), rng()) is silence


def test_a_calibration_that_is_off_is_off_by_what_was_asked(drawn_recording):
    rig = drawn_recording.rig
    off = altered_rig(
        rig, world(roof={"turned_deg": (0, 0, 90), "moved_m": (1, 0, 0)}, front={"turned_deg": (0, 2, 0)})
    )
    ahead = np.array([[5.0, 0, 0]])
    assert np.allclose(apply(off.ego_from_lidar["roof"], ahead), [[1.1, 5, 1.6]])
    before, after = (r.cameras["front"] for r in (rig, off))
    assert np.allclose(after.ego_from_camera[:3, 3], before.ego_from_camera[:3, 3])
    spot = np.array([[10.0, 0, 0.2]])
    moved = after.project(spot)[0] - before.project(spot)[0]
    assert moved[0, 1] == pytest.approx(-np.tan(np.radians(2)) * before.k[1, 1], rel=0.1)  # it thinks it looks lower
    assert altered_rig(rig, world(mic={"drop": 0.5})).ego_from_lidar == rig.ego_from_lidar


def test_a_calibration_that_is_not_there_cannot_be_off():
    with pytest.raises(InputError, match=r"world\.sensors\.front"):
        altered_rig(None, world(front={"moved_m": (0, 0, 1)}))
    with pytest.raises(InputError, match=r"world\.sensors\.front"):
        altered_rig(Rig({}), world(front={"moved_m": (0, 0, 1)}))
    assert altered_rig(None, world()) is None
