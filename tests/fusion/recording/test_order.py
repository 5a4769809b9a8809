"""Times that cannot be right: refused with one line, or left out alone; a clock that was set is gone along with."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import RecordingError
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.recording.order import LONGEST_PAUSE_NS, OrderedReader
from fusion.recording.time_range import TimeRange
from fusion.types import Image, Modality, Reading

HOUR, DAY = 3600, 86_400


class Told:
    """A reader of two sensors with times in seconds, taken in turn."""

    path = Path("told.bag")

    def __init__(self, front, rear=()):
        self.readings_s = [("front", second) for second in front] + [("rear", second) for second in rear]

    def info(self):
        names = {name for name, _ in self.readings_s}
        sensors = {
            name: SensorInfo.of_times(Modality.CAMERA, name, [s * 10**9 for n, s in self.readings_s if n == name])
            for name in names
        }
        return RecordingInfo(self.path, "told", "0" * 64, 0, "", sensors, None, 0, {})

    def sizes(self):
        return {}

    def readings(self, start_cursor=0):
        for cursor, (name, second) in enumerate(self.readings_s, 1):
            if cursor > start_cursor:
                yield cursor, Reading(name, Modality.CAMERA, second * 10**9, Image(np.zeros((1, 1, 3), np.uint8)))

    def truth(self):
        return iter(())


def seconds(reader, **options):
    return [reading.capture_time_ns // 10**9 for _, reading in reader.readings(**options)]


@pytest.mark.parametrize(
    ("times", "kept", "told"),
    [
        ([1, 2, 3, 3, 4], [1, 2, 3, 3, 4], ""),
        ([1, 2, 2 + HOUR, 3 + HOUR], [1, 2, 2 + HOUR, 3 + HOUR], ""),
        ([1, 3, 2, 4], [1, 3, 4], "reading 3 (front): its time goes back by 1 s; left out"),
        ([1, 2, 2 + DAY, 3, 4], [1, 2, 3, 4], "reading 3 (front): its time jumps on by 86400 s; left out"),
        ([1, 2, 2 + DAY, 3 + DAY], [1, 2, 2 + DAY, 3 + DAY], "jumps on by 86400 s, and goes on from there"),
        ([HOUR, HOUR + 1, 2, 3, 4], [HOUR, HOUR + 1, 2, 3, 4], "reading 3 (front): its time goes back by 3599 s, and"),
        ([1, 2, 3, 0], [1, 2, 3], "reading 4 (front): its time goes back by 3 s; left out"),
        ([1, 2, 3, 3 + DAY], [1, 2, 3], "reading 4 (front): its time jumps on by 86400 s; left out"),
    ],
)  # fmt: skip
def test_what_salvaging_makes_of_them(times, kept, told):
    reader = OrderedReader(Told(times), salvage=True)
    assert seconds(reader) == kept
    info = reader.info()
    assert told in info.damage
    assert bool(info.damage) == bool(told)
    assert info.sensors["front"].count == len(kept)
    if told:
        assert info.damage.startswith("told.bag: reading ")
        with pytest.raises(RecordingError, match=r"^told.bag: reading \d \(front\): its time .*salvaging") as caught:
            seconds(OrderedReader(Told(times), salvage=False))
        assert "\n" not in str(caught.value)
    else:
        assert seconds(OrderedReader(Told(times), salvage=False)) == times


def test_each_sensor_has_its_own_clock():
    reader = OrderedReader(Told([5, 6, 7], [1, 2, 3]), salvage=False)
    assert seconds(reader) == [5, 6, 7, 1, 2, 3]


def test_what_is_left_out_is_left_out_wherever_reading_begins():
    reader = OrderedReader(Told([1, 2, 2 + DAY, 3, 2, 4]), salvage=True)
    assert seconds(reader) == [1, 2, 3, 4]
    assert seconds(reader, start_cursor=2) == [3, 4]
    times = TimeRange(3 * 10**9, None)
    assert [r.capture_time_ns // 10**9 for _, r in reader.between(times)] == [3, 4]


@pytest.mark.parametrize("salvage", [False, True])
def test_moments_keep_their_names(salvage):
    class Named(Told):
        def names(self):
            return {second * 10**9: name for name, second in self.readings_s}

    assert OrderedReader(Named([1, 2], [3]), salvage=salvage).names() == {
        10**9: "front",
        2 * 10**9: "front",
        3 * 10**9: "rear",
    }
    assert OrderedReader(Told([1, 2]), salvage=salvage).names() == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3 * LONGEST_PAUSE_NS // 10**9), min_size=1, max_size=25))
def test_sound_times_are_left_alone_and_others_are_told(times):
    sound = all(0 <= b - a <= LONGEST_PAUSE_NS // 10**9 for a, b in itertools.pairwise(times))
    reader = OrderedReader(Told(times), salvage=True)
    found = seconds(reader)
    assert sound == (reader.info().damage == "")
    assert not sound or found == times
    assert reader.info().sensors["front"].count == len(found) > 0
