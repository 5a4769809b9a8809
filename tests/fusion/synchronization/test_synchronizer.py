"""Samples: what belongs to one camera frame, what is late or absent, and what disorder does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import ConfigError, InputError
from fusion.synchronization import Aligned, StampFault, Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import AudioChunk, Availability, Gap, Image, Modality, PointCloud, Reading

MS = 1_000_000
PIXELS = Image(np.zeros((2, 2, 3), np.uint8))
POINTS = PointCloud(np.zeros((1, 4), np.float32))


def front(ms: float) -> Reading:
    return Reading("front", Modality.CAMERA, round(ms * MS), PIXELS)


def roof(ms: float) -> Reading:
    return Reading("roof", Modality.LIDAR, round(ms * MS), POINTS)


def mic(ms: float, value: int = 1, length_ms: int = 100, rate: int = 16_000) -> Reading:
    pcm = np.full(rate * length_ms // 1000, value, np.int16)
    return Reading("mic", Modality.SPEECH, round(ms * MS), AudioChunk(pcm, rate))


def yard(**changes: float) -> Synchronizer:
    return Synchronizer.of_task(Task.load("yard"), SynchronizerSettings(**changes))


def rear(ms: float) -> Reading:
    return Reading("rear", Modality.LIDAR, round(ms * MS), POINTS)


def two_lidars(**changes: float) -> Synchronizer:
    sensors = {"front": Modality.CAMERA, "roof": Modality.LIDAR, "rear": Modality.LIDAR, "mic": Modality.SPEECH}
    return Synchronizer(sensors, "front", SynchronizerSettings(**changes))


def run(sync: Synchronizer, readings: list[Reading], start: int = 1) -> list[Aligned | Gap]:
    done = [one for cursor, reading in enumerate(readings, start) for one in sync.push(cursor, reading)]
    return done + sync.flush()


def test_a_frame_takes_the_nearest_sweep_and_waits_for_it():
    sync = yard()
    assert sync.push(0, roof(950)) == []
    assert sync.push(1, front(1000)) == []  # the LiDAR is alive and may still deliver something nearer
    (sample,) = sync.push(2, roof(1010))
    slot = sample.slots["roof"]
    assert slot.reading is not None
    assert slot.reading.capture_time_ns == 1010 * MS
    assert (slot.availability, slot.age_ns) == (Availability.PRESENT, 0)
    assert sample.cursor == 1


def test_a_sweep_too_far_ahead_is_not_used():
    sync = yard()
    sync.push(0, roof(950))
    sync.push(1, front(1000))
    (sample,) = sync.push(2, roof(1051))
    assert sample.slots["roof"].age_ns == 50 * MS


@pytest.mark.parametrize(
    ("age_ms", "state"),
    [(75, Availability.PRESENT), (76, Availability.LATE), (500, Availability.LATE), (501, Availability.ABSENT)],
)
def test_age_decides_between_present_late_and_absent(age_ms, state):
    sync = yard()
    sync.push(0, roof(1000))
    (sample,) = run(sync, [front(1000 + age_ms)], 1)
    slot = sample.slots["roof"]
    assert slot.availability is state
    assert (slot.reading is None) == (state is Availability.ABSENT)
    assert slot.age_ns == (0 if state is Availability.ABSENT else age_ms * MS)


def test_a_dead_sensor_is_not_waited_for():
    sync = yard()
    sync.push(0, roof(0))
    (sample,) = sync.push(1, front(2000))
    assert sample.slots["roof"].availability is Availability.ABSENT
    assert sample.slots["mic"].availability is Availability.ABSENT


def test_a_sensor_that_stalls_delays_a_frame_by_one_frame_at_most():
    sync = yard()
    sync.push(0, roof(1000))
    assert sync.push(1, front(1100)) == []
    (sample,) = sync.push(2, front(1200))
    assert sample.time_ns == 1100 * MS
    assert sync.counts.waited_out == 1


def test_sound_is_the_three_seconds_that_end_with_the_frame():
    sync = yard()
    readings = [mic(100 * i, value=i + 1) for i in range(45)]
    for cursor, reading in enumerate(readings):
        assert sync.push(cursor, reading) == []
    (sample,) = sync.push(45, front(4050))
    slot = sample.slots["mic"]
    assert slot.age_ns == 0
    assert isinstance(slot.reading.payload, AudioChunk)
    pcm = slot.reading.payload.pcm
    assert pcm.shape == (48_000,)
    assert slot.reading.capture_time_ns == 1050 * MS
    assert pcm[0] == 11  # the chunk of 1.0..1.1 s, from its middle
    assert pcm[-1] == 41
    assert (np.diff(pcm) >= 0).all()


def test_sound_that_ended_has_an_age_and_holes_are_silence():
    sync = yard()
    sync.push(0, mic(0, value=5))
    sync.push(1, mic(200, value=7))
    (sample,) = sync.push(2, front(400))
    slot = sample.slots["mic"]
    assert (slot.availability, slot.age_ns) == (Availability.LATE, 100 * MS)
    pcm = slot.reading.payload.pcm
    assert (pcm[-1600:] == 7).all()
    assert (pcm[-3200:-1600] == 0).all()
    assert (pcm[-4800:-3200] == 5).all()
    assert not pcm[:-4800].any()


def tone(ms: float, first: int, length_ms: float = 100) -> Reading:
    """A chunk whose samples count on from `first`."""
    pcm = np.arange(first, first + round(16 * length_ms)) % 30_000 + 1
    return Reading("mic", Modality.SPEECH, round(ms * MS), AudioChunk(pcm.astype(np.int16), 16_000))


def unbroken(sample: Aligned) -> bool:
    """Whether the window of `tone` chunks has no joint."""
    steps = np.diff(sample.slots["mic"].reading.payload.pcm.astype(int))
    return set(steps) <= {1, -29_999}


def off_ms(sample: Aligned, rate: float = 1.0) -> float:
    """How far the last sample of the window is from the frame, by the microphone's clock of `rate`."""
    last = int(sample.slots["mic"].reading.payload.pcm[-1])
    return ((last - sample.time_ns / MS * 16 / rate + 15_000) % 30_000 - 15_000) / 16


@pytest.mark.parametrize("jitter_ms", [0, 1, 3])
def test_stamps_that_jitter_tear_no_holes(jitter_ms):
    random = np.random.default_rng(1)
    readings = [tone(100 * i + random.uniform(-1, 1) * jitter_ms, 1600 * i) for i in range(60)]
    *_, sample = run(yard(), [*readings, front(5950)])
    assert unbroken(sample)
    assert abs(off_ms(sample)) <= jitter_ms


def test_a_clock_that_runs_apart_is_followed():
    """By 0.1 %, which is 120 ms in two minutes."""
    readings = [tone(100.1 * i, 1600 * i) for i in range(1200)]
    frames = [front(ms) for ms in range(4000, 119_000, 1000)]
    samples = run(yard(), sorted([*readings, *frames], key=lambda reading: reading.capture_time_ns))
    assert len(samples) == len(frames)
    assert all(unbroken(sample) and abs(off_ms(sample, 1.001)) < 10 for sample in samples)


def test_a_short_chunk_that_is_lost_leaves_its_hole_and_one_told_twice_stands_once():
    readings = [tone(10 * i, 160 * i, 10) for i in range(40) if i != 20]
    readings.insert(30, readings[29])
    (sample,) = run(yard(), [*readings, front(400)])
    pcm = sample.slots["mic"].reading.payload.pcm[-6400:]
    assert np.flatnonzero(pcm == 0).tolist() == list(range(3200, 3360))
    assert (pcm[3360:] == np.arange(3361, 6401)).all()


def test_sound_at_another_rate_is_an_error_that_names_the_sensor():
    with pytest.raises(InputError, match=r"mic.*8000 Hz.*16000 Hz"):
        yard().push(0, mic(0, rate=8000))


def test_duplicates_and_disorder_are_counted_and_frames_become_gaps():
    sync = yard()
    done = run(sync, [front(1000), front(1000), front(900), front(1100), roof(1100), roof(1100), roof(1050)])
    assert [one.time_ns // MS for one in done if isinstance(one, Aligned)] == [1000, 1100]
    assert [one for one in done if isinstance(one, Gap)] == [
        Gap(2, 2, "duplicate frame"),
        Gap(3, 3, "frame out of order"),
    ]
    assert sync.counts.faults == {
        "front": {StampFault.DUPLICATE: 1, StampFault.OUT_OF_ORDER: 1},
        "roof": {StampFault.DUPLICATE: 1, StampFault.OUT_OF_ORDER: 1},
    }


def test_a_set_clock_starts_afresh_instead_of_refusing_everything():
    sync = yard()
    done = run(sync, [front(100_000), front(1000), front(1100)])
    assert [(one.time_ns // MS, one.fresh) for one in done] == [(100_000, False), (1000, True), (1100, False)]
    assert sync.counts.total(StampFault.CLOCK_SET) == 1


def test_a_fault_is_told_as_it_is_counted_with_how_far_the_stamp_is_off():
    sync, told = yard(), []
    sync.counts.noticed = lambda *fault: told.append(fault)
    run(sync, [front(1000), roof(1000), front(1100), roof(550), mic(9000), mic(9000), roof(3_601_000), front(1200)])
    assert told == [
        ("roof", StampFault.OUT_OF_ORDER, -450 * MS),
        ("roof", StampFault.OUT_OF_WINDOW, -550 * MS),
        ("mic", StampFault.DUPLICATE, 0),
        ("roof", StampFault.CLOCK_SET, 3_600_000 * MS),
    ]


@pytest.mark.parametrize("behind_ms", [600, 3_600_000])
def test_a_sensor_whose_readings_come_too_late_for_every_frame_is_counted(behind_ms):
    sync = yard()
    readings = [one for ms in range(4_000_000, 4_001_000, 100) for one in (front(ms), roof(ms - behind_ms))]
    done = run(sync, readings)
    assert {one.slots["roof"].availability for one in done} == {Availability.ABSENT}
    assert sync.counts.faults == {"roof": {StampFault.OUT_OF_WINDOW: 10}}


@pytest.mark.parametrize("ahead_ms", [2000, 3_600_000])
def test_a_sensor_ahead_of_the_frames_is_counted_once_its_readings_give_way_unused(ahead_ms):
    sync = yard(depth=4)
    readings = [one for ms in range(0, 1000, 100) for one in (roof(ms + ahead_ms), front(ms))]
    done = run(sync, readings)
    assert {one.slots["roof"].availability for one in done} == {Availability.ABSENT}
    assert sync.counts.faults == {"roof": {StampFault.OUT_OF_WINDOW: 6}}


def test_a_camera_that_pauses_is_no_fault_of_the_other_sensors():
    sync = yard(depth=4)
    sweeps = [roof(ms) for ms in range(1000, 4500, 100)]
    done = run(sync, [front(990), *sweeps, front(4450), roof(4500), front(4550), roof(4600)])
    assert [one.slots["roof"].availability for one in done][1:] == [Availability.PRESENT] * 2
    assert sync.counts.faults == {}


def test_a_sensor_that_comes_back_after_long_is_no_clock_that_was_set():
    frames = [front(ms) for ms in range(0, 20_000, 500)]
    sync = yard()
    run(sync, [front(0), mic(0), roof(10), *frames[1:], roof(19_510), mic(19_400), front(19_600)])
    assert sync.counts.faults == {}
    sweeps = [roof(ms) for ms in range(0, 20_000, 500)]
    sync = yard()
    done = run(sync, [front(0), *sweeps, front(19_600)])
    assert [one.fresh for one in done] == [False, True]  # though it is none, too much time went by for tracks
    assert sync.counts.faults == {}


def test_a_clock_set_forward_is_told_once_and_one_that_then_agrees_with_the_others_is_right():
    sync = yard()
    run(sync, [front(0), roof(10), front(3_600_000), roof(3_600_010), front(3_600_100)])
    assert sync.counts.faults == {"front": {StampFault.CLOCK_SET: 1}}


def test_sensors_that_follow_a_clock_together_are_in_no_frames_window_for_no_longer_than_that():
    """The order in which they meet a clock that was set does not matter."""
    before = [one for ms in range(0, 1000, 100) for one in (roof(ms + 7_200_000), front(ms + 7_200_000))]
    sweeps_first = [roof(3_600_000), roof(3_600_050), *(front(3_600_060), roof(3_600_070))]
    frames_first = [front(3_600_000), front(3_600_050), *(roof(3_600_060), front(3_600_070))]
    for after in (sweeps_first, frames_first):
        sync = yard()
        done = run(sync, before + after)
        assert done[-1].slots["roof"].availability is Availability.PRESENT
        assert sync.counts.faults == {"front": {StampFault.CLOCK_SET: 1}, "roof": {StampFault.CLOCK_SET: 1}}


def test_a_frame_waits_for_a_sensor_no_longer_than_another_goes_on_by_the_window():
    sync = two_lidars()
    for cursor, reading in enumerate([roof(900), rear(900), front(1000)]):
        assert sync.push(cursor, reading) == []
    assert sync.push(3, rear(1010)) == []
    assert sync.push(4, rear(1060)) == []
    (sample,) = sync.push(5, rear(1061))
    assert {name: slot.age_ns // MS for name, slot in sample.slots.items()} == {
        "front": 0, "roof": 100, "rear": 0, "mic": 0,
    }  # fmt: skip
    assert sync.counts.waited_out == 1


@pytest.mark.parametrize("before", [[], [roof(300)], [roof(3_600_000)]], ids=["none", "behind", "clock set"])
def test_a_sensor_that_was_not_alive_may_deliver_while_the_frame_waits_for_another(before):
    (sample,) = run(two_lidars(), [*before, rear(990), front(1000), roof(1000), rear(1001)])
    assert sample.slots["roof"].availability is Availability.PRESENT
    assert sample.slots["roof"].age_ns == 0


def test_a_frame_that_waits_while_nothing_comes_is_handed_back_once_time_has_passed():
    sync = yard(late_ms=500)
    assert sync.tick(0) == []
    run_in = [roof(1000), front(1200)]
    assert [sync.push(cursor, one) for cursor, one in enumerate(run_in)] == [[], []]
    assert sync.tick(7_000 * MS) == []  # only now it is seen to wait
    assert sync.push(2, mic(1200)) == []
    assert sync.tick(7_500 * MS) == []
    (sample,) = sync.tick(7_501 * MS)
    assert (sample.time_ns, sample.slots["roof"].age_ns) == (1200 * MS, 200 * MS)
    assert sync.counts.waited_out == 1
    assert sync.tick(9_000 * MS) == []


def test_a_sensor_whose_clock_is_set_while_a_frame_waits_does_not_end_the_wait():
    sync = two_lidars()
    for cursor, reading in enumerate([roof(900), rear(900), front(1000), rear(1010), rear(3_601_010)]):
        assert sync.push(cursor, reading) == []
    (sample,) = sync.push(5, roof(1000))
    assert sample.slots["roof"].age_ns == 0


delays_ms = st.integers(0, 400)
"""From a stamp to the reading's arrival."""


@given(
    offset_ms=st.one_of(st.integers(-1000, 1000), st.integers(-4_000_000, 4_000_000)),
    frames_ms=st.integers(33, 1000),
    sweeps_ms=st.tuples(st.integers(50, 200), st.integers(20, 200)),
    phase_ms=st.integers(0, 49),
    delays=st.tuples(delays_ms, delays_ms),
)
@settings(max_examples=100, deadline=None)
def test_a_sensor_whose_stamps_are_off_changes_nothing_about_the_others(
    offset_ms, frames_ms, sweeps_ms, phase_ms, delays
):
    """Each delivers in order and 0 to 400 ms late; the rear one is off by a constant, or right, or not there.

    Of frames that the roof was alive for when they came: to others it may deliver while they wait for the rear one.
    """
    base, ends = 10_000_000, 5000

    def samples(*, off: int | None) -> list[Aligned]:
        arrivals = [(at, 0, front(base + at)) for at in range(200, ends, frames_ms)]
        arrivals += [(at + delays[0], 1, roof(base + at)) for at in range(phase_ms, ends, sweeps_ms[0])]
        if off is not None:
            arrivals += [(at + delays[1], 2, rear(base + at + off)) for at in range(0, ends, sweeps_ms[1])]
        arrived = sorted(arrivals, key=lambda one: one[:2])
        return [one for one in run(two_lidars(), [one for _, _, one in arrived]) if isinstance(one, Aligned)]

    sweeps = range(phase_ms, ends, sweeps_ms[0])
    alive = {at for at in range(200, ends, frames_ms) if any(at - 500 <= s < at - delays[0] for s in sweeps)}
    right, off = samples(off=0), samples(off=offset_ms)
    assert [one.time_ns for one in off] == [one.time_ns for one in right]
    assert [_chosen(one, "roof") for one in off if one.time_ns // MS - base in alive] == [
        _chosen(one, "roof") for one in right if one.time_ns // MS - base in alive
    ]
    if sweeps_ms[0] + delays[0] <= 50:  # what comes within the window is never missed, whoever else there is
        alone = samples(off=None)
        assert [_chosen(one, "roof") for one in off] == [_chosen(one, "roof") for one in alone]


def _chosen(sample: Aligned, name: str) -> tuple:
    slot = sample.slots[name]
    return slot.availability, slot.age_ns, slot.reading and slot.reading.capture_time_ns


def test_readings_of_unknown_sensors_are_counted():
    sync = yard()
    sync.push(0, Reading("rear", Modality.CAMERA, 0, PIXELS))
    sync.push(1, Reading("roof", Modality.CAMERA, 0, PIXELS))
    assert sync.counts.unknown_sensor == 2


def test_a_task_of_one_camera_never_waits():
    sync = Synchronizer.of_task(Task.load("pcb"), SynchronizerSettings())
    (sample,) = sync.push(0, Reading("line", Modality.CAMERA, 5, PIXELS))
    assert dict(sample.slots).keys() == {"line"}


def test_an_unknown_reference_is_a_config_error():
    with pytest.raises(ConfigError, match=r"synchronizer.reference.*rear"):
        Synchronizer.of_task(Task.load("yard"), SynchronizerSettings(reference="rear"))


readings_in_disorder = st.lists(
    st.one_of(
        st.builds(front, st.integers(0, 4000)),
        st.builds(roof, st.integers(0, 9000)),
        st.builds(rear, st.integers(0, 4000)),
        st.builds(mic, st.integers(0, 4000)),
    ),
    max_size=60,
)


@given(readings_in_disorder)
@settings(max_examples=60, deadline=None)
def test_every_frame_is_a_sample_or_a_gap_and_memory_is_bounded(readings):
    sync = yard(depth=4)
    done = run(sync, readings)
    frames = [cursor for cursor, reading in enumerate(readings, 1) if reading.sensor == "front"]
    told = [one.cursor if isinstance(one, Aligned) else one.first for one in done]
    assert told == frames
    assert sum(1 for _ in sync._tracks["roof"].readings) <= 4
    for one in done:
        if isinstance(one, Aligned) and (reading := one.slots["roof"].reading):
            assert -50 * MS <= one.time_ns - reading.capture_time_ns <= 500 * MS


@given(readings_in_disorder, st.data())
@settings(max_examples=60, deadline=None)
def test_warming_up_from_the_warm_cursor_gives_the_same_samples(readings, data):
    whole = [one for one in run(two_lidars(), readings) if isinstance(one, Aligned)]
    if not whole:
        return
    at = data.draw(st.integers(0, len(whole) - 1))
    again = two_lidars()
    resumed = run(again, readings[whole[at].warm_cursor :], whole[at].warm_cursor + 1)
    rest = [one for one in resumed if isinstance(one, Aligned) and one.cursor > whole[at].cursor]
    assert [_what(one) for one in rest] == [_what(one) for one in whole[at + 1 :]]


def _what(sample: Aligned) -> tuple:
    slots = {
        name: (slot.availability, slot.age_ns, slot.reading and slot.reading.capture_time_ns)
        for name, slot in sample.slots.items()
    }
    heard = sample.slots["mic"].reading
    sound = heard.payload.pcm.tobytes() if heard else b""
    return sample.time_ns, sample.cursor, slots, sound
