"""KITTI odometry sequences: every point's class, real times where there are some, and where the car was."""

from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import FusionError, RecordingError
from fusion.geometry import apply, rigid, rotation_y
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.recording.inspect import inspect_recording, projection_picture

DATA = Path(__file__).parents[4] / "../shared/data/semantickitti"
CALIB = "P0: 30 0 31 0 0 30 10 0 0 0 1 0\nP2: 30 0 31 2 0 30 10 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3\n"
STILL = "1 0 0 0 0 1 0 0 0 0 1 0"
AHEAD = "1 0 0 0 0 1 0 0 0 0 1 2.5"


@pytest.fixture(scope="module")
def real():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not here")
    return open_recording(DATA)


def test_every_point_has_the_class_of_the_label_file(real):
    ((cursor, reading),) = real.readings()
    labels = np.fromfile(DATA / "sequences/00/labels/000000.label", "<u4")
    assert cursor == 1
    assert reading.payload.points.shape == (124_668, 4)
    assert reading.payload.labels.dtype == np.uint16
    assert np.array_equal(reading.payload.labels, labels & 0xFFFF)
    assert len(np.unique(reading.payload.labels)) == 17
    assert len(np.unique(labels >> 16)) == 15, "these are not read"
    assert any("instance number" in told for told in real.info().unread)


def test_the_road_is_at_the_height_of_the_ego_frame(real):
    """Class 40 is road: within 10 m it lies on the ego frame's ground, as the LiDAR is 1.73 m above it."""
    ((_, reading),) = real.readings()
    ego = apply(real.info().rig.ego_from_lidar["velodyne"], reading.payload.points[:, :3].astype(float))
    near = (reading.payload.labels == 40) & (np.linalg.norm(ego[:, :2], axis=1) < 10)
    assert near.sum() > 10_000
    assert abs(np.median(ego[near, 2])) < 0.15


def test_it_says_what_it_does_not_know(real):
    info = real.info()
    assert (info.format, info.task, info.truths) == ("semantickitti", "driving", 0)
    assert info.notes["times"] == "nominal: 10 Hz, there is no times.txt"
    assert "non-commercial" in info.notes["licence"]
    assert not list(real.truth())
    assert not list(real.poses())
    assert "124668 points" in str(inspect_recording(DATA))


def test_the_conversion_keeps_points_and_classes(real, tmp_path):
    convert(DATA / "sequences/00", tmp_path / "a.mcap")
    native = open_recording(tmp_path / "a.mcap")
    ((_, one),), ((_, other),) = real.readings(), native.readings()
    assert one.payload.points.tobytes() == other.payload.points.tobytes()
    assert np.array_equal(one.payload.labels, other.payload.labels)
    assert native.info().notes["source-sha256"] == real.info().content_sha256
    assert "instance number" in native.info().notes["not-carried"]


def test_without_a_camera_it_is_seen_from_above_by_class(real, tmp_path):
    assert projection_picture(DATA, tmp_path / "p.png") == "velodyne from above"
    drawn = cv2.imread(str(tmp_path / "p.png"))
    assert drawn.shape == (800, 800, 3)
    assert 17 >= len(np.unique(drawn.reshape(-1, 3), axis=0)) - 1 > 10, "a colour a class, on black"
    with pytest.raises(RecordingError, match="no calibrated camera and LiDAR"):
        projection_picture(DATA, tmp_path / "p.png", camera="left")


@pytest.fixture
def sequence(tmp_path):
    """A made-up sequence of three scans and pictures; the car goes 2.5 m ahead between the second and the third."""
    made = tmp_path / "sequences" / "07"
    for name in ("velodyne", "labels", "image_2"):
        (made / name).mkdir(parents=True)
    for frame in range(3):
        np.full((5, 4), frame + 1, np.float32).tofile(made / f"velodyne/{frame:06d}.bin")
        (np.arange(5, dtype="<u4") + (9 << 16)).tofile(made / f"labels/{frame:06d}.label")
        cv2.imwrite(str(made / f"image_2/{frame:06d}.png"), np.zeros((20, 62, 3), np.uint8))
    (made / "calib.txt").write_text(CALIB)
    (made / "times.txt").write_text("0.000000e+00\n1.036735e-01\n2.073510e-01\n")
    (made / "poses.txt").write_text(f"{STILL}\n{STILL}\n{AHEAD}\n")
    return made


def test_times_are_the_files_own(sequence):
    reader = open_recording(sequence)
    times = [(r.sensor, r.capture_time_ns) for _, r in reader.readings()]
    assert times[:4] == [("velodyne", 0), ("left", 0), ("velodyne", 103_673_500), ("left", 103_673_500)]
    assert "times" not in reader.info().notes


def test_the_ego_frame_moves_as_the_camera_does(sequence):
    """The cameras' forward is the car's; poses are of the ego frame, in the map that is its first."""
    poses = list(open_recording(sequence).poses())
    assert [p.time_ns for p in poses] == [0, 103_673_500, 207_351_000]
    assert np.allclose(poses[1].map_from_ego, np.eye(4), atol=1e-12)
    assert np.allclose(poses[2].map_from_ego, rigid(np.eye(3), np.array([2.5, 0, 0])), atol=1e-12)


def test_a_turn_of_the_camera_is_a_turn_about_the_cars_z(sequence):
    """KITTI's y points down, so that 0.1 rad about it is a turn to the right; the rest of the car turns about it."""
    turn = " ".join(" ".join(map(str, [*row, 0.0])) for row in rotation_y(0.1))
    (sequence / "poses.txt").write_text(f"{STILL}\n{turn}\n{AHEAD}\n")
    moved = list(open_recording(sequence).poses())[1].map_from_ego
    assert np.arctan2(moved[1, 0], moved[0, 0]) == pytest.approx(-0.1)
    camera = np.array([[0.3, 0.0, 1.63]])
    assert apply(moved, camera) == pytest.approx(camera), "the camera itself stayed where it was"


def test_the_sequence_of_a_root_is_its_split(sequence):
    root = sequence.parents[1]
    assert open_recording(root).info().content_sha256 == open_recording(sequence).info().content_sha256
    other = root / "sequences" / "08" / "velodyne"
    other.mkdir(parents=True)
    np.ones((2, 4), np.float32).tofile(other / "000000.bin")
    with pytest.raises(RecordingError, match="several sequences; give one as the split; there are: 07, 08"):
        open_recording(root)
    with pytest.raises(RecordingError, match="no sequence '9' in it"):
        open_recording(root, split="9")
    assert open_recording(root, split="08").info().sensors["velodyne"].count == 1


def test_everything_is_in_the_conversion(sequence, tmp_path):
    done = convert(sequence, tmp_path / "a.mcap")
    assert (done.readings, done.poses) == ({"velodyne": 3, "left": 3}, 3)
    assert "3 poses" in str(done)
    native = open_recording(tmp_path / "a.mcap")
    assert np.allclose(list(native.poses())[2].map_from_ego[:3, 3], [2.5, 0, 0])
    source = open_recording(sequence).info().rig
    assert np.allclose(native.info().rig.cameras["left"].ego_from_camera, source.cameras["left"].ego_from_camera)


def test_a_scan_without_labels_is_read_all_the_same(sequence):
    (sequence / "labels/000001.label").unlink()
    reader = open_recording(sequence)
    assert [r.payload.labels is None for _, r in reader.readings() if r.sensor == "velodyne"] == [False, True, False]
    assert reader.info().notes["labels"].startswith("of 2 of 3 scans")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("velodyne/000001.bin", bytes(35), "000001.bin: 35 bytes are not a whole number of points"),
        ("velodyne/000001.bin", np.full(20, np.inf, "<f4").tobytes(), "5 of 5 points are not finite, .* point 0"),
        ("labels/000001.label", bytes(16), r"000001.label: 4 labels of 4 bytes \(16 bytes\) for a scan of 5 points"),
        ("labels/000001.label", bytes(19), r"000001.label: 4.75 labels .* for a scan of 5 points"),
        ("labels/x.label", b"", "x.label: the name is not a frame number"),
        ("times.txt", b"0\n0.1\n", "000002.bin: frame 2 has no time in times.txt"),
        ("times.txt", b"0\n0.2\n0.1\n", "times.txt:3: '0.1' is before the line before it"),
        ("times.txt", b"0\nsoon\n0.1\n", "times.txt:2: 'soon' is not a time"),
        ("times.txt", b"0\n1e300\n0.1\n", "times.txt:2: '1e300' is not a time"),
        ("times.txt", b"0\nnan\n0.1\n", "times.txt:2: 'nan' is not a time"),
        ("poses.txt", f"{STILL}\n{STILL}\n".encode(), "poses.txt: no line 3, for the scan of frame 2"),
        ("poses.txt", f"{STILL}\n1 2 3\n{STILL}\n".encode(), "poses.txt:2: not the 12 numbers of a rigid transform"),
        ("poses.txt", f"{STILL}\n2{STILL[1:]}\n{STILL}\n".encode(), "poses.txt:2: not the 12 numbers"),
        ("calib.txt", None, "calib.txt: no such file, but pictures and poses need it"),
        ("calib.txt", CALIB.replace("Tr", "TR").encode(), "calib.txt: 'Tr' is missing"),
        ("calib.txt", CALIB.replace("P2", "PP").encode(), "calib.txt: 'P2' is missing"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_left(sequence, tmp_path, name, content, text):
    (sequence / name).unlink(missing_ok=True)
    if content is not None:
        (sequence / name).write_bytes(content)
    with pytest.raises(RecordingError, match=text):
        convert(sequence, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))


def test_salvage_keeps_what_is_sound(sequence):
    np.array([[1] * 4, [np.nan] * 4, [2] * 4, [3] * 4, [4] * 4], "<f4").tofile(sequence / "velodyne/000000.bin")
    (sequence / "velodyne/000001.bin").write_bytes(bytes(35))
    (sequence / "times.txt").write_text("0\n0.1\n0.05\n")
    reader = open_recording(sequence, salvage=True)
    clouds = [r.payload for _, r in reader.readings() if r.sensor == "velodyne"]
    assert [len(c.points) for c in clouds] == [4, 2], "the third frame has no time that can be believed"
    assert clouds[0].labels.tolist() == [0, 2, 3, 4]
    assert clouds[1].labels is None
    assert "times.txt:3" in reader.info().damage


def test_a_sequence_without_scans_is_refused(tmp_path):
    (tmp_path / "velodyne").mkdir()
    with pytest.raises(RecordingError, match="no velodyne/"):
        open_recording(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80) | st.text(st.sampled_from("Tr: 01.-e\n"), max_size=99).map(str.encode))
@pytest.mark.parametrize("name", ["velodyne/000000.bin", "labels/000000.label", "times.txt", "poses.txt", "calib.txt"])
def test_any_bytes_are_read_or_refused(sequence, name, data):
    (sequence / name).write_bytes(data)
    for salvage in (False, True):
        with suppress(FusionError):
            reader = open_recording(sequence, salvage=salvage)
            reader.info()
            list(reader.readings())
