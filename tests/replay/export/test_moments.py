"""What a data set calls its moments, by time."""

import cv2
import numpy as np
import pytest

from fusion.recording import open_recording
from fusion.recording.base import NamedReader
from fusion.recording.stretch import Stretch
from fusion.task import Task
from replay.export.boxes.moments import Moments, picture_sizes


@pytest.fixture
def boards(tmp_path):
    """Two pictures of boards of different sizes, called as files are."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "first.jpg"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "images" / "second.png"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "test.txt").write_text("second\nfirst\n")
    return open_recording(tmp_path, Task.load("pcb"), "test")


def test_pictures_are_called_by_their_files(boards):
    assert isinstance(boards, NamedReader)
    assert Moments.of(boards).names == ["second.png", "first.jpg"]
    assert Moments.of(boards).times_ns == [reading.capture_time_ns for _, reading in boards.readings()]


def test_pictures_of_several_sizes_are_looked_at(boards):
    size = picture_sizes(boards, "line")
    assert [size(time_ns) for time_ns in Moments.of(boards).times_ns] == [(50, 40), (30, 20)]
    assert size(7) == (0, 0)


def test_a_moment_is_found_within_what_is_allowed():
    moments = Moments([10, 20], ["a", "b"])
    assert [moments.nearest(time, 4) for time in (10, 14, 15, 16, 24, 25)] == ["a", "a", None, "b", "b", None]
    assert moments.nearest(19) is None
    assert Moments([], []).nearest(10, 100) is None


def test_a_recording_without_names_has_none(drawn_recording):
    assert Moments.of(drawn_recording).names == []
    assert Moments.of(Stretch.of_seconds(drawn_recording, 0, None)).names == []
