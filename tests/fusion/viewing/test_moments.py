"""Which moments are shown, and which sensors are held back."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigError
from fusion.task import Task
from fusion.viewing.absence import withheld_sensors
from fusion.viewing.moments import Choice, choice_of


def picked(choice: Choice, times: list[float]) -> list[float]:
    return [time for time in times if choice.picks(time)]


TIMES = [round(0.1 * n, 3) for n in range(50)]


def test_at_is_the_first_moment_from_then_on() -> None:
    assert picked(choice_of(at_s=1.23, every_s=None, limit=None, single=True), TIMES) == [1.3]
    assert picked(choice_of(at_s=1.3, every_s=None, limit=None, single=False), TIMES) == [1.3]
    assert picked(choice_of(at_s=None, every_s=None, limit=None, single=True), TIMES) == [0.0]
    assert picked(choice_of(at_s=60.0, every_s=None, limit=None, single=True), TIMES) == []


def test_a_folder_takes_every_moment_or_one_in_so_many() -> None:
    assert picked(choice_of(at_s=None, every_s=None, limit=None, single=False), TIMES) == TIMES
    assert picked(choice_of(at_s=None, every_s=1.0, limit=None, single=False), TIMES) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert picked(choice_of(at_s=None, every_s=0.0, limit=3, single=False), TIMES) == [0.0, 0.1, 0.2]


@given(st.lists(st.integers(0, 10_000), unique=True), st.integers(5, 2000), st.integers(1, 30))
def test_moments_keep_their_distance_and_number(hundredths: list[int], every_hundredths: int, limit: int) -> None:
    times, every = [n / 100 for n in hundredths], every_hundredths / 100
    found = picked(Choice(every_s=every, left=limit), sorted(times))
    assert len(found) <= limit
    assert found[:1] == sorted(times)[:1]
    cells = [round(time * 100) // every_hundredths for time in found]
    assert all(b > a for a, b in pairwise(cells))


@pytest.mark.parametrize(
    ("given_options", "named"),
    [
        ({"at_s": -1.0}, "--at -1"),
        ({"at_s": float("nan")}, "--at nan"),
        ({"every_s": float("inf")}, "--every inf"),
        ({"limit": 0}, "--limit 0"),
        ({"limit": -2}, "--limit -2"),
        ({"every_s": 1.0, "single": True}, "folder"),
        ({"limit": 2, "single": True}, "folder"),
    ],
)
def test_what_makes_no_sense_is_refused(given_options: dict, named: str) -> None:
    options = {"at_s": None, "every_s": None, "limit": None, "single": False} | given_options
    with pytest.raises(ConfigError, match=named):
        choice_of(**options)


def test_sensors_are_held_back_by_modality_or_name() -> None:
    task = Task.load("nuscenes")
    assert withheld_sensors(["lidar", "cam-back"], task) == {"lidar-top", "cam-back"}
    assert len(withheld_sensors(["camera"], task)) == 6
    assert withheld_sensors([], task) == frozenset()
    with pytest.raises(ConfigError, match=r"--without speech: .*camera, lidar, cam-front"):
        withheld_sensors(["speech"], task)
    with pytest.raises(ConfigError, match="--without cam-frnt"):
        withheld_sensors(["cam-frnt"], task)
