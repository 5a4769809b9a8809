"""A KITTI drive becomes a native recording, and says where its times come from."""

import shutil
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import FusionError, RecordingError
from fusion.geometry import apply
from fusion.recording import open_recording
from fusion.recording.base import IndexedReader
from fusion.recording.convert import convert
from fusion.recording.driving.kitti_files import read_velodyne
from fusion.recording.inspect import inspect_recording, projection_picture
from fusion.task import Task
from fusion.types import Box2D, PointCloud

DAY = Path(__file__).parents[4] / "../shared/data/kitti_raw/2011_09_26"
DRIVE = DAY / "2011_09_26_drive_0052_sync"
NOT_FINITE = np.array([[1] * 4, [1] * 4, [1, np.nan, 1, 1], [1, 1, 1, np.inf]], "<f4").tobytes()
UNSORTED = b"2011-09-26 13:02:25.1\n2011-09-26 13:02:25.3\n2011-09-26 13:02:25.2\n"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    if not DRIVE.exists():
        pytest.skip(f"{DRIVE} is not here")
    out = tmp_path_factory.mktemp("kitti") / "drive.mcap"
    return convert(DRIVE, out), out


def test_everything_is_brought_over(imported):
    done, out = imported
    assert (done.readings["left"], done.readings["velodyne"], done.truths) == (6, 6, 1)
    assert "times nominal: 10 Hz for velodyne, left" in str(done)
    readings = [r for _, r in open_recording(out).readings()]
    pictures = [r for r in readings if r.sensor == "left"]
    sweeps = [r for r in readings if r.sensor == "velodyne"]
    assert [r.capture_time_ns for r in pictures] == [n * 100_000_000 for n in range(7, 13)]
    for reading, source in zip(pictures, sorted((DRIVE / "image_02/data").iterdir()), strict=True):
        assert reading.payload.encoded == source.read_bytes()
    for reading, source in zip(sweeps, sorted((DRIVE / "velodyne_points/data").iterdir()), strict=True):
        assert np.array_equal(reading.payload.points, np.fromfile(source, np.float32).reshape(-1, 4))


def test_the_drive_reads_as_its_conversion_does(imported):
    source, native = open_recording(DRIVE), open_recording(imported[1])
    pairs = list(zip(source.readings(), native.readings(), strict=True))
    assert [c for (c, _), _ in pairs] == list(range(1, 13))
    for (_, one), (_, other) in pairs:
        assert (one.sensor, one.modality, one.capture_time_ns) == (other.sensor, other.modality, other.capture_time_ns)
    assert list(source.truth()) == list(native.truth())
    info = source.info()
    assert info.format == "kitti-raw"
    assert info.task == native.info().task == "driving"
    assert native.info().notes["source-sha256"] == info.content_sha256
    assert [c for c, _ in source.readings(10)] == [11, 12]
    assert source.sizes()["velodyne"] == sum(p.stat().st_size for p in (DRIVE / "velodyne_points/data").iterdir())


def test_stamps_tell_when_without_opening_what(tmp_path):
    if not DRIVE.exists():
        pytest.skip(f"{DRIVE} is not here")
    told = [(c, r.sensor, r.modality, r.capture_time_ns) for c, r in open_recording(DRIVE).readings()]
    drive = tmp_path / DAY.name / DRIVE.name
    shutil.copytree(DAY, drive.parent)
    for file in (*drive.glob("velodyne_points/data/*.bin"), *drive.glob("image_02/data/*.png")):
        file.write_bytes(b"")
    reader = open_recording(drive)
    assert isinstance(reader, IndexedReader)
    assert [(c, r.sensor, r.modality, r.capture_time_ns) for c, r in reader.stamps()] == told


def test_the_recording_says_that_its_times_are_nominal(imported):
    info = open_recording(imported[1]).info()
    assert "nominal" in info.notes["times"]
    assert info.continuous, "the frames are consecutive all the same"
    assert "nominal" in str(inspect_recording(imported[1]))
    assert "BY-NC-SA" in info.notes["licence"]


def test_the_calibration_is_kittis_own_projection(imported):
    """Against P_rect_02 · R_rect_00 · Tr_velo_to_cam, multiplied out as the development kit does."""
    values = {}
    for line in (DRIVE / "calib_object_style.txt").read_text().splitlines():
        key, _, rest = line.partition(":")
        values[key] = np.array(rest.split(), np.float64)
    rectify, from_velo = np.eye(4), np.eye(4)
    rectify[:3, :3] = values["R0_rect"].reshape(3, 3)
    from_velo[:3] = values["Tr_velo_to_cam"].reshape(3, 4)
    projection = values["P2"].reshape(3, 4) @ rectify @ from_velo
    rig = open_recording(imported[1]).info().rig
    points = read_velodyne(DRIVE / "velodyne_points/data/0000000007.bin").points[:, :3].astype(np.float64)
    places, inside = rig.cameras["left"].project(apply(rig.ego_from_lidar["velodyne"], points))
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ projection.T
    expected = homogeneous[inside, :2] / homogeneous[inside, 2:]
    assert inside.sum() > 15_000
    assert np.abs(places[inside] - expected).max() < 0.05


def test_the_boxes_are_the_labelled_pixels(imported):
    (truth,) = open_recording(imported[1]).truth()
    assert truth.time_ns == 700_000_000
    assert {o.label for o in truth.objects} == {"car"}
    box = truth.objects[0].box2d
    assert (round(box.x1), round(box.y1), round(box.x2), round(box.y2)) == (556, 185, 714, 334)


def test_the_projection_can_be_looked_at(imported, tmp_path):
    assert projection_picture(imported[1], tmp_path / "p.png", at_s=0.2) == "velodyne in left"
    drawn = cv2.imread(str(tmp_path / "p.png"))
    assert drawn.shape == (375, 1242, 3)
    saturation = drawn.max(2).astype(int) - drawn.min(2)
    assert (saturation[200:] > 60).mean() > 0.2, "the lower half of a street scene is full of points"
    assert (saturation[:40] > 60).mean() < 0.05, "the sky has none"


@pytest.fixture
def drive(tmp_path):
    """A drive of three made-up frames, to be broken."""
    made = tmp_path / "day" / "drive_sync"
    for folder in ("velodyne_points", "image_02"):
        (made / folder / "data").mkdir(parents=True)
    (made.parent / "calib_velo_to_cam.txt").write_text(
        "calib_time: 15-Mar-2012\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.1 -0.3\n"
    )
    (made.parent / "calib_cam_to_cam.txt").write_text(
        "S_rect_02: 62 20\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 30 0 31 2 0 30 10 0 0 0 1 0\n"
    )
    for frame in range(3):
        np.ones((5, 4), np.float32).tofile(made / f"velodyne_points/data/{frame:010d}.bin")
        cv2.imwrite(str(made / f"image_02/data/{frame:010d}.png"), np.zeros((20, 62, 3), np.uint8))
    return made


def test_real_timestamps_are_used_where_a_sensor_has_them(drive, tmp_path):
    """Those of drive 0001, which is a real file of the data set."""
    if not DAY.exists():
        pytest.skip(f"{DAY} is not here")
    other = DAY / "2011_09_26_drive_0001_sync_timestamps_only"
    shutil.copy(other / "velodyne_points/timestamps.txt", drive / "velodyne_points/timestamps.txt")
    shutil.copy(other / "image_02/timestamps.txt", drive / "image_02/timestamps.txt")
    convert(drive, tmp_path / "a.mcap")
    info = open_recording(tmp_path / "a.mcap").info()
    assert "times" not in info.notes
    first = (other / "velodyne_points/timestamps.txt").read_text().split("\n")[0]
    nanoseconds = int(first.rpartition(".")[2])
    assert info.sensors["velodyne"].first_ns % 1_000_000_000 == nanoseconds
    assert 5e6 < info.sensors["left"].first_ns - info.sensors["velodyne"].first_ns < 15e6


def test_a_missing_sweep_is_simply_not_there(drive, tmp_path):
    (drive / "velodyne_points/data/0000000001.bin").unlink()
    done = convert(drive, tmp_path / "a.mcap")
    assert done.readings == {"velodyne": 2, "left": 3}


def test_boxes_are_shares_of_the_left_picture(drive):
    (drive / "labels_2d_yolo").mkdir()
    (drive / "labels_2d_yolo/0000000002.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (drive / "labels_2d_yolo/0000000009.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    reader = open_recording(drive)
    (truth,) = reader.truth()
    assert reader.info().truths == 1
    assert (truth.time_ns, truth.objects[0].label) == (200_000_000, "pedestrian")
    assert truth.objects[0].box2d == Box2D(15.5, 5, 46.5, 15)


def test_a_point_ahead_is_in_the_middle_of_the_picture(drive):
    rig = open_recording(drive).info().rig
    ahead = apply(rig.ego_from_lidar["velodyne"], np.array([[10.0, 0.0, 0.0]]))
    ((u, v),), (inside,) = rig.cameras["left"].project(ahead)
    assert inside
    assert u == pytest.approx(31 + 2 / 9.7)
    assert v == pytest.approx(10 - 3 / 9.7)


def test_what_no_reading_is_made_of_is_named(drive):
    (drive / "oxts").mkdir()
    (drive / "tracklet_labels.xml").touch()
    assert open_recording(drive).info().unread == ("oxts (GPS and IMU)", "tracklet_labels.xml (3-D tracklets)")


def test_a_drive_of_sweeps_alone_needs_no_camera_calibration(drive):
    shutil.rmtree(drive / "image_02")
    for path in drive.parent.glob("calib*"):
        path.unlink()
    info = open_recording(drive).info()
    assert not info.rig.cameras
    assert info.rig.ego_from_lidar["velodyne"][2, 3] == 1.73


def broken(drive, name, content):
    path = drive / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("velodyne_points/data/0000000001.bin", bytes(35), "35 bytes are not a whole number of points .* byte 32"),
        ("velodyne_points/data/0000000001.bin", NOT_FINITE, "0000000001.bin: 2 of 4 points .* point 2 at byte 32"),
        ("image_02/data/0000000001.png", b"\x89PNG", "0000000001.png"),
        ("image_02/data/last.png", b"", "not a frame number"),
        ("image_02/data/12345678901.png", b"", "not a frame number"),
        ("image_02/timestamps.txt", b"2011-09-26 13:02:25.1\nyesterday\n", "timestamps.txt:2: 'yesterday'"),
        ("image_02/timestamps.txt", b"2011-09-26 13:02:25.1\n", "frame 1 has no time in image_02/timestamps.txt"),
        ("image_02/timestamps.txt", UNSORTED, "timestamps.txt:3: '2011-09-26 13:02:25.2' is before the line before"),
        ("image_02/timestamps.txt", b"1911-09-26 13:02:25.1\n", "timestamps.txt:1: .* is before 1970"),
        ("../calib_velo_to_cam.txt", b"R: 1 2 3\nT: 0 0 0\n", "'R' is missing or is not 9 numbers"),
        (
            "../calib_velo_to_cam.txt",
            b"R: 1 2 3 4 5 6 7 8 9\nT: 0 0 0\n",
            "calib_velo_to_cam.txt: 'R' holds no rotation",
        ),
        ("../calib_cam_to_cam.txt", b"", "'R_rect_00' is missing"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_left(drive, tmp_path, name, content, text):
    broken(drive, name, content)
    with pytest.raises(RecordingError, match=text):
        convert(drive, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))


def test_a_missing_calibration_is_named(drive):
    (drive.parent / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(RecordingError, match=r"calib_velo_to_cam.txt: cannot be read \(No such file"):
        open_recording(drive)


def test_salvage_keeps_what_is_sound_and_tells_what_is_not(drive, tmp_path):
    broken(drive, "velodyne_points/data/0000000000.bin", bytes(35))
    broken(drive, "velodyne_points/data/0000000001.bin", NOT_FINITE)
    broken(drive, "image_02/data/0000000002.png", b"\x89PNG")
    broken(drive, "image_02/timestamps.txt", b"2011-09-26 13:02:25.1\nyesterday\n2011-09-26 13:02:25.3\n")
    reader = open_recording(drive, salvage=True)
    found = [(r.sensor, len(getattr(r.payload, "points", ()))) for _, r in reader.readings()]
    assert found == [("velodyne", 2), ("velodyne", 2), ("velodyne", 5), ("left", 0)]
    assert {name: sensor.count for name, sensor in reader.info().sensors.items()} == {"left": 1, "velodyne": 3}
    damage = reader.info().damage
    assert "'yesterday' is not a time" in damage
    assert "0000000000.bin: 35 bytes" in damage
    assert damage.endswith("and 2 more")
    done = convert(drive, tmp_path / "a.mcap", salvage=True)
    assert f"SALVAGED: {damage}" in str(done)
    assert open_recording(tmp_path / "a.mcap").info().notes["source-damage"] == damage


def test_salvage_leaves_malformed_labels_and_those_of_half_a_picture_out(drive):
    (drive / "labels_2d_yolo").mkdir()
    for frame in range(3):
        (drive / f"labels_2d_yolo/000000000{frame}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (drive / "labels_2d_yolo/0000000001.txt").write_text("1 0.5\n")
    whole = (drive / "image_02/data/0000000002.png").read_bytes()
    broken(drive, "image_02/data/0000000002.png", whole[: len(whole) // 2])
    reader = open_recording(drive, salvage=True)
    assert "0000000001.txt:1: 2 numbers" in reader.info().damage
    assert [t.time_ns for t in reader.truth()] == [0]
    assert reader.info().truths == 1


def test_what_is_no_drive_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="no such file or folder"):
        convert(tmp_path / "gone", tmp_path / "a.mcap")
    with pytest.raises(RecordingError, match="not a recording of a known format"):
        convert(tmp_path, tmp_path / "a.mcap")
    (tmp_path / "velodyne_points/data").mkdir(parents=True)
    with pytest.raises(RecordingError, match="no velodyne_points"):
        convert(tmp_path, tmp_path / "a.mcap")


def test_a_drive_has_no_splits_and_must_suit_the_task(drive):
    with pytest.raises(RecordingError, match="has no splits"):
        open_recording(drive, split="training")
    with pytest.raises(RecordingError, match=r"no sensor of task yard .*; it has left, velodyne"):
        open_recording(drive, Task.load("yard"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80) | st.text(st.sampled_from("20-1:. R_T\n"), max_size=99).map(str.encode))
@pytest.mark.parametrize(
    "name", ["velodyne_points/data/0000000001.bin", "image_02/timestamps.txt", "../calib_velo_to_cam.txt"]
)
def test_any_bytes_are_read_or_refused(drive, name, data):
    (drive / name).write_bytes(data)
    for salvage in (False, True):
        with suppress(FusionError):
            reader = open_recording(drive, salvage=salvage)
            reader.info()
            list(reader.readings())


def test_a_sweep_is_float32(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    points.tofile(tmp_path / "a.bin")
    cloud = read_velodyne(tmp_path / "a.bin")
    assert isinstance(cloud, PointCloud)
    assert np.array_equal(cloud.points, points)
