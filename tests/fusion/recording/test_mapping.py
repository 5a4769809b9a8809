"""A recording's sensors under the task's names: everything that has a name is renamed, nothing else changes."""

import cv2
import numpy as np
import pytest

from fusion.errors import ConfigError, RecordingError
from fusion.recording import open_recording
from fusion.recording.mapping import MappedReader, read_mapping
from fusion.recording.native.synthetic import write_synthetic
from fusion.recording.native.writer import RecordingWriter
from fusion.recording.stretch import Stretch
from fusion.task import Task
from fusion.types import Image


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "a.mcap"
    write_synthetic(path, frames=4, width=64, height=64, points=64)
    return open_recording(path)


def test_sensor_and_topic_are_both_names_of_it(reader):
    yard = Task.load("yard")
    for topic in ("front", "/camera/front"):
        mapped = MappedReader(reader, {"front": topic}, yard)
        assert {r.sensor for _, r in mapped.readings()} == {"front", "roof", "mic"}


def test_readings_rig_sizes_and_info_have_the_new_name(reader):
    task, camera = Task.load("kitti"), "left"
    mapped = MappedReader(reader, {camera: "/camera/front"}, task)
    info, whole = mapped.info(), reader.info()
    names = {camera, "roof", "mic"}
    assert {r.sensor for _, r in mapped.readings()} == names
    assert info.sensors.keys() == mapped.sizes().keys() == names
    assert info.sensors[camera] == whole.sensors["front"]
    assert np.array_equal(info.rig.cameras[camera].k, whole.rig.cameras["front"].k)
    assert set(info.rig.ego_from_lidar) == {"roof"}
    assert info.content_sha256 == whole.content_sha256
    assert info.notes[f"mapped to {camera}"] == "front (/camera/front)"
    cursors = [cursor for cursor, _ in mapped.readings()]
    assert cursors == [cursor for cursor, _ in reader.readings()]
    assert list(mapped.truth()) == list(reader.truth())
    part = Stretch.of_seconds(mapped, 0.2, None)
    assert part.info().sensors[camera].count == 3


def test_a_sensor_whose_name_is_taken_is_left_out_and_two_can_be_swapped(tmp_path):
    task = Task.load("nuscenes")
    path = tmp_path / "two.mcap"
    with RecordingWriter(path, None, "nuscenes") as writer:
        for number, name in enumerate(("cam-front", "cam-back", "spare")):
            writer.camera(name, number, Image(np.full((4, 4, 3), number, np.uint8)))
    taken = MappedReader(open_recording(path), {"cam-front": "spare"}, task)
    assert [(cursor, r.sensor) for cursor, r in taken.readings()] == [(2, "cam-back"), (3, "cam-front")]
    assert taken.info().sensors.keys() == {"cam-back", "cam-front"}
    swapped = MappedReader(open_recording(path), {"cam-front": "cam-back", "cam-back": "cam-front"}, task)
    assert [r.sensor for _, r in swapped.readings()] == ["cam-back", "cam-front", "spare"]


def test_wrong_names_are_one_line_that_says_what_there_is(reader):
    yard = Task.load("yard")
    with pytest.raises(
        RecordingError, match=r"no sensor or topic '/rear' to map; there are: front \(/camera/front\), "
    ):
        MappedReader(reader, {"front": "/rear"}, yard)
    with pytest.raises(RecordingError, match=r"/lidar/roof is a lidar, and front of task yard a camera"):
        MappedReader(reader, {"front": "/lidar/roof"}, yard)


def test_moments_keep_their_names(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"images/{number:02}.png"), np.full((8, 8, 3), number, np.uint8))
    pictures = open_recording(tmp_path, Task.load("pcb"))
    mapped = MappedReader(pictures, {"front": "line"}, Task.load("yard"))
    assert mapped.names() == pictures.names()
    assert list(mapped.names().values()) == ["00.png", "01.png", "02.png"]


def test_a_recording_without_names_has_none(reader):
    assert MappedReader(reader, {"front": "front"}, Task.load("yard")).names() == {}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (("front",), "give SENSOR=TOPIC"),
        (("front=",), "give SENSOR=TOPIC"),
        (("left=/a",), r"task yard has no sensor 'left'; it has front, roof, mic"),
        (("front=/a", "front=/b"), "mapped twice"),
        (("front=/a", "roof=/a"), "'/a' is mapped twice"),
    ],
)
def test_so_are_wrong_options(given, match):
    with pytest.raises(ConfigError, match=match):
        read_mapping(given, Task.load("yard"))


def test_a_topic_may_have_an_equals_sign():
    assert read_mapping(("front = /a=b",), Task.load("yard")) == {"front": "/a=b"}
