"""The same drive in every container: what its messages become, where reading goes on, what is told of it."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.ros.bags import open_bag
from fusion.recording.ros.reader import RosReader
from fusion.task import Task
from fusion.types import AudioChunk, Image, Modality, PointCloud

DATA = Path(__file__).parents[4] / "../shared/data"
POINTS = np.zeros(6, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4")])
POINTS["x"] = [1, 2, 0, np.nan, 5, 6]
POINTS["y"] = [1, 1, 0, 1, 1, 1]
POINTS["intensity"] = [0, 51, 0, 0, 255, 102]
POINTS["t"] = [0, 10_000_000, 0, 0, 50_000_000, 99_000_000]
NO_TURN = (0.0, 0.0, 0.0, 1.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)


def drive(m, start, moments=3):
    """A camera, a LiDAR 2 m up, a microphone; every message is stored 1 ms after its stamp."""
    yield (
        "/tf_static",
        m.transforms(("base_link", "lidar", (0, 0, 2.0), NO_TURN), ("base_link", "cam", (0, 0, 0), OPTICAL)),
        start,
    )
    yield "/cam/camera_info", m.calibration(d=(0.1, 0, 0, 0, 0)), start
    yield "/mic/info", m.audio_info(), start
    for i in range(moments):
        time = start + i * 100_000_000
        pixels = np.full((16, 24, 3), (10 * i, 100, 200), np.uint8)
        yield "/cam/image_raw", m.image(pixels, "rgb8", time), time + 1_000_000
        yield "/imu", m.header(time), time + 1_000_000
        yield "/points", m.cloud(POINTS, time + 5_000_000), time + 6_000_000
        yield "/mic/audio", m.audio(np.arange(1600, dtype="<i2").tobytes()), time + 7_000_000


def test_every_container_gives_the_same_readings(bags, kind):
    path = bags.write(kind, drive(bags.messages(kind), bags.start))
    reader = open_recording(path)
    assert isinstance(reader, RosReader)
    info = reader.info()
    assert {name: (s.modality, s.count) for name, s in info.sensors.items()} == {
        "cam-image-raw": (Modality.CAMERA, 3),
        "points": (Modality.LIDAR, 3),
        "mic-audio": (Modality.SPEECH, 3),
    }
    assert info.sensors["points"].first_ns == bags.start + 5_000_000, "the stamp, not when it was stored"
    assert info.sensors["points"].rate_hz == pytest.approx(10)
    assert "when the bag stored them" in info.notes["times of mic-audio"]
    assert "times" not in info.notes, "no time is nominal"
    assert info.notes["no returns of points"].startswith("6 of 18 points")
    assert info.notes["intensity of points"] == "field intensity / 255"
    assert "base_link" in info.notes["frames"]
    assert np.allclose(info.rig.ego_from_lidar["points"][:3, 3], [0, 0, 2])
    ahead, inside = info.rig.cameras["cam-image-raw"].project(np.array([[5.0, 0, 0], [-5.0, 0, 0]]))
    assert inside.tolist() == [True, False]
    assert np.allclose(ahead[0], [12, 8])
    assert info.unread == ("/imu (std_msgs/msg/Header, of no sensor)",)
    readings = list(reader.readings())
    assert [c for c, _ in readings] == sorted({c for c, _ in readings})
    assert [r.sensor for _, r in readings[:3]] == ["cam-image-raw", "points", "mic-audio"]
    image, sweep, sound = (r.payload for _, r in readings[3:6])
    assert isinstance(image, Image)
    assert image.pixels.shape == (16, 24, 3)
    assert image.pixels[0, 0].tolist() == [10, 100, 200]
    assert isinstance(sweep, PointCloud)
    assert np.allclose(sweep.points, [[1, 1, 0, 0], [2, 1, 0, 0.2], [5, 1, 0, 1], [6, 1, 0, 0.4]])
    assert np.allclose(sweep.offsets_s, [0, 0.01, 0.05, 0.099])
    assert readings[4][1].capture_time_ns == bags.start + 105_000_000
    assert isinstance(sound, AudioChunk)
    assert (sound.pcm.dtype, sound.pcm[-1], sound.sample_rate_hz) == (np.int16, 1599, 16000)
    assert readings[5][1].capture_time_ns == bags.start + 107_000_000
    assert reader.dropped_points == 6
    assert list(reader.truth()) == []


def test_reading_goes_on_after_any_cursor(bags, kind):
    reader = open_recording(bags.write(kind, drive(bags.messages(kind), bags.start)))
    whole = [(c, r.sensor, r.capture_time_ns) for c, r in reader.readings()]
    for cursor in range(whole[-1][0] + 2):
        rest = [(c, r.sensor, r.capture_time_ns) for c, r in reader.readings(cursor)]
        assert rest == [entry for entry in whole if entry[0] > cursor]


def test_the_task_must_share_a_sensor_and_there_are_no_splits(bags, ros):
    path = bags.write(ros, drive(bags.messages(ros), bags.start))
    with pytest.raises(RecordingError, match=r"no sensor of task yard .*; it has cam-image-raw, mic-audio, points"):
        open_recording(path, Task.load("yard"))
    with pytest.raises(RecordingError, match="has no splits"):
        open_recording(path, None, "test")


def test_the_hash_is_the_files_and_a_folders_covers_each(bags):
    one = bags.write("bag", drive(bags.messages("bag"), bags.start))
    import hashlib

    assert open_recording(one).info().content_sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    folder = bags.write("folder", drive(bags.messages("folder"), bags.start))
    before = open_recording(folder).info().content_sha256
    (folder / "notes.txt").write_text("not part of the bag")
    assert open_recording(folder).info().content_sha256 == before
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        database.execute("UPDATE messages SET timestamp = timestamp + 1 WHERE id = 3")
    assert open_recording(folder).info().content_sha256 != before


def test_a_split_bag_is_read_file_after_file(bags, tmp_path):
    messages = list(drive(bags.messages("folder"), bags.start, moments=6))
    first = bags.write("folder", messages[:15], "first")
    second = bags.write("folder", messages[15:], "second")
    shutil.copy(second / "second.db3", first / "second.db3")
    metadata = first / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("- first.db3", "- old/folder/first.db3\n  - second.db3", 1))
    reader = open_recording(first)
    whole = [(c, r.sensor, r.capture_time_ns) for c, r in reader.readings()]
    assert len(whole) == 18
    assert whole[-1][0] == len(messages)
    assert [(c, r.sensor, r.capture_time_ns) for c, r in reader.readings(whole[10][0])] == whole[11:]
    assert reader.info().notes["messages"] == f"metadata.yaml tells 15, the files hold {len(messages)}"
    (first / "second.db3").unlink()
    with pytest.raises(RecordingError, match=r"metadata.yaml: it names second.db3, which is not in the folder"):
        open_recording(first)


def test_a_folder_whose_metadata_was_never_written_is_read(bags):
    folder = bags.write("folder", drive(bags.messages("folder"), bags.start))
    (folder / "metadata.yaml").unlink()
    reader = open_recording(folder)
    assert len(list(reader.readings())) == 9
    assert "missing" in reader.info().notes["metadata.yaml"]
    assert len(list(open_recording(next(folder.glob("*.db3"))).readings())) == 9, "so is its file alone"


@pytest.mark.parametrize("text", ["", "a: [", "rosbag2_bagfile_information: 3", "{" * 5000, "x: 2020-99-99", "\0"])
def test_metadata_that_is_none_is_refused(bags, text):
    folder = bags.write("folder", drive(bags.messages("folder"), bags.start))
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(RecordingError, match=r"metadata.yaml"):
        open_recording(folder)


def test_passed_over_chunks_are_not_unpacked(bags, tmp_path, monkeypatch):
    m = bags.messages("bag")
    messages = list(drive(m, bags.start, moments=20))
    bags.write_bag1(tmp_path / "a.bag", messages, "LZ4", threshold=4000)
    source = open_bag(tmp_path / "a.bag")
    unpacked = []
    from fusion.recording.ros import ros1_bag

    real = ros1_bag.unpack_chunk
    monkeypatch.setattr(ros1_bag, "unpack_chunk", lambda *a: unpacked.append(1) or real(*a))
    reader = RosReader(source)
    assert len(list(reader.readings())) == 60
    many = len(unpacked)
    unpacked.clear()
    last = len(messages)
    assert [c for c, _ in reader.readings(last - 2)] == [last - 1, last]
    assert len(unpacked) <= 2 < many


def test_mcaps_of_ros_are_told_from_ours_by_profile_and_encodings(bags, tmp_path, small):
    for ros in (1, 2):
        kind = "bag" if ros == 1 else "folder"
        path = tmp_path / f"{ros}.mcap"
        bags.write_mcap(path, drive(bags.messages(kind), bags.start), ros, profile="")
        assert isinstance(open_recording(path), RosReader)
    assert not isinstance(open_recording(small), RosReader)
    assert not RosReader.can_read(tmp_path / "nothing.mcap")


def test_without_the_library_it_is_said_what_to_install(bags, ros, monkeypatch):
    import sys

    path = bags.write(ros, drive(bags.messages(ros), bags.start))
    for name in [name for name in sys.modules if name.partition(".")[0] == "rosbags"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    with pytest.raises(RecordingError, match=r"install fusion-stack\[formats\]"):
        open_recording(path)


def test_the_real_ouster_session_has_the_points_it_should():
    path = DATA / "mcap_ouster/test.mcap"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    reader = open_recording(path)
    info = reader.info()
    assert info.format == "mcap"
    assert "os1_sensor" in info.notes["frames"]
    assert np.allclose(
        info.rig.ego_from_lidar["os1-cloud-node-points"],
        [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0.03618], [0, 0, 0, 1]],
    )
    sweeps = [(c, r) for c, r in reader.readings() if r.modality is Modality.LIDAR]
    assert [len(r.payload.points) for _, r in sweeps] == [45_716, 45_809]
    assert reader.dropped_points == 2 * 64 * 2048 - 45_716 - 45_809
    assert sweeps[0][1].capture_time_ns == 1_588_075_038_629_915_872
    for _, reading in sweeps:
        cloud = reading.payload
        assert 0 < cloud.offsets_s.min() < cloud.offsets_s.max() < 0.1
        assert 0 <= cloud.points[:, 3].min() <= cloud.points[:, 3].max() <= 1
    assert next(r.sensor for _, r in reader.readings(sweeps[1][0] - 1)) == "os1-cloud-node-points"
    assert sum("PacketMsg, a LiDAR's raw packets" in topic for topic in info.unread) == 2
