"""A KITTI drive becomes a native recording, and says where its times come from."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.geometry import apply
from fusion.recording import open_recording
from fusion.recording.inspect import inspect_recording, projection_picture
from fusion.recording.kitti import import_kitti_raw, read_velodyne
from fusion.types import PointCloud

DAY = Path(__file__).parents[3] / "../shared/data/kitti_raw/2011_09_26"
DRIVE = DAY / "2011_09_26_drive_0052_sync"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    if not DRIVE.exists():
        pytest.skip(f"{DRIVE} is not here")
    out = tmp_path_factory.mktemp("kitti") / "drive.mcap"
    return import_kitti_raw(DRIVE, out), out


def test_everything_is_brought_over(imported):
    summary, out = imported
    assert (summary.frames, summary.pictures, summary.sweeps, summary.boxes) == (6, 6, 6, 8)
    assert "NOMINAL 10 Hz times for velodyne, left" in str(summary)
    readings = [r for _, r in open_recording(out).readings()]
    pictures = [r for r in readings if r.sensor == "left"]
    sweeps = [r for r in readings if r.sensor == "velodyne"]
    assert [r.capture_time_ns for r in pictures] == [n * 100_000_000 for n in range(7, 13)]
    for reading, source in zip(pictures, sorted((DRIVE / "image_02/data").iterdir()), strict=True):
        assert reading.payload.encoded == source.read_bytes()
    for reading, source in zip(sweeps, sorted((DRIVE / "velodyne_points/data").iterdir()), strict=True):
        assert np.array_equal(reading.payload.points, np.fromfile(source, np.float32).reshape(-1, 4))


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
    projection_picture(imported[1], tmp_path / "p.png", at_s=0.2)
    drawn = cv2.imread(str(tmp_path / "p.png"))
    assert drawn.shape == (375, 1242, 3)
    saturation = drawn.max(2).astype(int) - drawn.min(2)
    assert (saturation[200:] > 60).mean() > 0.2, "the lower half of a street scene is full of points"
    assert (saturation[:40] > 60).mean() < 0.05, "the sky has none"


@pytest.fixture
def drive(tmp_path):
    """A drive of three made-up frames with the real calibration, to be broken."""
    if not DRIVE.exists():
        pytest.skip(f"{DRIVE} is not here")
    made = tmp_path / "day" / "drive_sync"
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        (made.parent).mkdir(exist_ok=True)
        shutil.copy(DAY / name, made.parent / name)
    for folder in ("velodyne_points", "image_02"):
        (made / folder / "data").mkdir(parents=True)
    for frame in range(3):
        np.ones((5, 4), np.float32).tofile(made / f"velodyne_points/data/{frame:010d}.bin")
        cv2.imwrite(str(made / f"image_02/data/{frame:010d}.png"), np.zeros((375, 1242, 3), np.uint8))
    return made


def test_real_timestamps_are_used_where_a_sensor_has_them(drive, tmp_path):
    """Those of drive 0001, which is a real file of the data set."""
    other = DAY / "2011_09_26_drive_0001_sync_timestamps_only"
    shutil.copy(other / "velodyne_points/timestamps.txt", drive / "velodyne_points/timestamps.txt")
    shutil.copy(other / "image_02/timestamps.txt", drive / "image_02/timestamps.txt")
    summary = import_kitti_raw(drive, tmp_path / "a.mcap")
    assert summary.nominal == []
    info = open_recording(tmp_path / "a.mcap").info()
    assert "times" not in info.notes
    first = (other / "velodyne_points/timestamps.txt").read_text().split("\n")[0]
    nanoseconds = int(first.rpartition(".")[2])
    assert info.sensors["velodyne"].first_ns % 1_000_000_000 == nanoseconds
    assert 5e6 < info.sensors["left"].first_ns - info.sensors["velodyne"].first_ns < 15e6


def test_a_missing_sweep_is_simply_not_there(drive, tmp_path):
    (drive / "velodyne_points/data/0000000001.bin").unlink()
    summary = import_kitti_raw(drive, tmp_path / "a.mcap")
    assert (summary.frames, summary.sweeps, summary.pictures) == (3, 2, 3)


def broken(drive, name, content):
    path = drive / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("velodyne_points/data/0000000001.bin", bytes(35), "35 bytes are not a whole number of points"),
        ("image_02/data/0000000001.png", b"\x89PNG", "0000000001.png"),
        ("image_02/data/last.png", b"", "not a frame number"),
        ("image_02/timestamps.txt", b"2011-09-26 13:02:25.1\nyesterday\n", "timestamps.txt:2: 'yesterday'"),
        ("image_02/timestamps.txt", b"2011-09-26 13:02:25.1\n", "frame 1 has no line"),
        ("../calib_velo_to_cam.txt", b"R: 1 2 3\nT: 0 0 0\n", "'R' is missing or is not 9 numbers"),
        ("../calib_cam_to_cam.txt", b"", "'R_rect_00' is missing"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_left(drive, tmp_path, name, content, text):
    broken(drive, name, content)
    with pytest.raises(RecordingError, match=text):
        import_kitti_raw(drive, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))


def test_what_is_no_drive_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="no such folder"):
        import_kitti_raw(tmp_path / "gone", tmp_path / "a.mcap")
    with pytest.raises(RecordingError, match="no velodyne_points"):
        import_kitti_raw(tmp_path, tmp_path / "a.mcap")


def test_a_sweep_is_float32(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    points.tofile(tmp_path / "a.bin")
    cloud = read_velodyne(tmp_path / "a.bin")
    assert isinstance(cloud, PointCloud)
    assert np.array_equal(cloud.points, points)
