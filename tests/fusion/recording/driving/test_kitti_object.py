"""KITTI object frames: each picture with its own calibration, boxes in the ego frame that hold the labelled points."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.errors import FusionError, RecordingError
from fusion.geometry import apply, invert, rotation_z
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.recording.driving.kitti_labels import read_labels
from fusion.recording.inspect import inspect_recording, projection_picture

DATA = Path(__file__).parents[4] / "../shared/data/kitti_object"
CALIB = (
    "P0: 30 0 31 0 0 30 10 0 0 0 1 0\nP2: 30 0 31 2 0 30 10 0 0 0 1 0\nP3: 30 0 31 -9 0 30 10 0 0 0 1 0\n"
    "R0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3\n"
)
OTHER = CALIB.replace("P2: 30", "P2: 31")
LABEL = "Car 0.25 1 -1.5 10 5 20 15 1.5 1.6 4.0 0 1.63 10 0.3\n"
DONTCARE = "DontCare -1 -1 -10 1 1 5 5 -1 -1 -1 -1000 -1000 -1000 -10\n"


@pytest.fixture(scope="module")
def real():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not here")
    return open_recording(DATA)


def test_frames_are_read_with_their_numbers_as_nominal_times(real, sweeps):
    info = real.info()
    assert info.format == "kitti-object"
    assert not info.continuous
    assert info.notes["times"].startswith("nominal: frame n at n / 10 s")
    assert "BY-NC-SA" in info.notes["licence"]
    assert info.sensors["velodyne"].count == 3
    assert all(not s.gaps for s in info.sensors.values()), "independent frames have no gaps between them"
    assert sorted(sweeps(real)) == [0, 100_000_000, 120_600_000_000]
    assert info.truths == 2, "frame 1206 has no label file"


def test_every_picture_has_the_calibration_it_was_taken_with(real):
    rig = real.info().rig
    sizes = {}
    for _, reading in real.readings():
        if reading.sensor != "velodyne":
            height, width = reading.payload.pixels.shape[:2]
            sizes[reading.capture_time_ns] = (width, height)
            camera = rig.cameras[reading.sensor]
            assert (camera.width, camera.height) == (width, height)
    assert sizes == {0: (1224, 370), 100_000_000: (1242, 375), 120_600_000_000: (1242, 375)}
    assert rig.cameras["left-2"].k[0, 0] == pytest.approx(707.0493)
    assert rig.cameras["left"].k[0, 0] == pytest.approx(721.5377)
    assert "left, left-2" in real.info().notes["cameras"]


def test_boxes_hold_the_points_of_their_objects(real, sweeps, held):
    """The pedestrian of frame 000000 has 376 points in the label's own, slightly tilted box."""
    points = sweeps(real)
    counts = {}
    for truth in real.truth():
        for thing in truth.objects:
            if thing.box3d:
                counts[thing.label] = int(held(points[truth.time_ns], thing.box3d).sum())
    assert abs(counts["pedestrian"] - 376) <= 2
    assert abs(counts["truck"] - 70) <= 2
    assert (counts["car"], counts["cyclist"]) == (9, 18)


def test_the_labels_own_box_holds_376_points_through_our_calibration(real, sweeps):
    words = (DATA / "training/label_2/000000.txt").read_text().split()
    height, width, length, x, y, z, turn = (float(w) for w in words[8:15])
    rig = real.info().rig
    # The rectified camera 0 has the left camera's axes; P2's last column says how far apart they are.
    camera = rig.cameras["left-2"]
    calib = dict(line.split(":") for line in (DATA / "training/calib/000000.txt").read_text().splitlines() if line)
    projection = np.array(calib["P2"].split(), float).reshape(3, 4)
    offset = np.linalg.solve(projection[:, :3], projection[:, 3])
    rectified = apply(invert(camera.ego_from_camera), sweeps(real)[0]) - offset
    local = rectified - [x, y - height / 2, z]
    along, across = rotation_z(turn)[:2, :2] @ local[:, [0, 2]].T
    within = (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2) & (np.abs(local[:, 1]) <= height / 2)
    assert within.sum() == 376


def test_points_of_a_box_in_space_lie_in_its_box_in_the_picture(real, sweeps, held):
    info, points = real.info(), sweeps(real)
    taken = {r.capture_time_ns: r.sensor for _, r in real.readings() if r.sensor != "velodyne"}
    shares = []
    for truth in real.truth():
        camera = info.rig.cameras[taken[truth.time_ns]]
        things = (thing for thing in truth.objects if thing.box3d)
        shares += [share_in_picture(points[truth.time_ns], thing, camera, held) for thing in things]
    assert len(shares) == 4
    assert min(shares) >= 0.9


def share_in_picture(points, thing, camera, held):
    """The share of an object's points that lie in its 2-D box."""
    places, seen = camera.project(points[held(points, thing.box3d)])
    box = thing.box2d
    assert seen.all()
    within = (places >= [box.x1 - 1, box.y1 - 1]) & (places <= [box.x2 + 1, box.y2 + 1])
    return within.all(axis=1).mean()


def test_truth_of_a_frame_that_another_tool_describes(tmp_path, sweeps, held):
    """Frame 000008, whose labels came as a table of camera-frame boxes: six cars, the points of the view only."""
    source = DATA / "fov_reduced"
    if not source.exists():
        pytest.skip(f"{source} is not here")
    for folder, name, other in (("velodyne", ".bin", ""), ("image_2", ".png", ""), ("calib", ".txt", "_calib")):
        (tmp_path / folder).mkdir()
        shutil.copy(source / f"000008{other}{name}", tmp_path / folder / f"000008{name}")
    (tmp_path / "label_2").mkdir()
    (entry,) = json.loads((source / "000008_info.json").read_text())["data_list"]
    cars = [i for i in entry["instances"] if i["bbox_label"] >= 0]
    lines = []
    for car in cars:
        x, y, z, length, height, width, turn = car["bbox_3d"]
        numbers = (*car["bbox"], height, width, length, x, y, z, turn)
        lines.append(f"Car {car['truncated']} {car['occluded']} {car['alpha']} " + " ".join(map(str, numbers)))
    (tmp_path / "label_2/000008.txt").write_text("\n".join(lines))
    reader = open_recording(tmp_path)
    (truth,) = reader.truth()
    (points,) = sweeps(reader).values()
    assert len(cars) == len(truth.objects) == 6
    counts = [int(held(points, thing.box3d).sum()) for thing in truth.objects]
    told = [car["num_lidar_pts"] for car in cars]
    assert np.corrcoef(counts, told)[0, 1] > 0.999
    assert sum(counts) == pytest.approx(sum(told), rel=0.03)
    camera = reader.info().rig.cameras["left"]
    whole = [t for t, car in zip(truth.objects, cars, strict=True) if car["truncated"] == 0]
    assert len(whole) >= 4
    assert min(share_in_picture(points, thing, camera, held) for thing in whole) >= 0.9


def test_the_conversion_is_the_same_recording(real, tmp_path):
    convert(DATA, tmp_path / "a.mcap")
    native = open_recording(tmp_path / "a.mcap")
    for (_, one), (_, other) in zip(real.readings(), native.readings(), strict=True):
        assert (one.sensor, one.capture_time_ns) == (other.sensor, other.capture_time_ns)
    for one, other in zip(real.truth(), native.truth(), strict=True):
        assert [(o.label, o.box2d, o.visibility) for o in one.objects] == [
            (o.label, o.box2d, o.visibility) for o in other.objects
        ]
    info = native.info()
    assert not info.continuous
    assert info.notes["times"] == real.info().notes["times"]
    assert info.rig.cameras.keys() == {"left", "left-2"}
    assert "truth for 2 moments" in str(inspect_recording(DATA))
    assert projection_picture(DATA, tmp_path / "p.png") == "velodyne in left"
    assert projection_picture(DATA, tmp_path / "p.png", camera="left-2") == "velodyne in left-2"
    assert cv2.imread(str(tmp_path / "p.png")).shape == (370, 1224, 3)


@pytest.fixture
def folder(tmp_path):
    """A made-up data set of four frames: three of one calibration and size, one of another; frame 3 has no scan."""
    training = tmp_path / "kitti/training"
    for name in ("image_2", "velodyne", "calib", "label_2"):
        (training / name).mkdir(parents=True)
    for frame in range(4):
        cv2.imwrite(str(training / f"image_2/{frame:06d}.png"), np.zeros((20, 62 + (frame == 0), 3), np.uint8))
        (training / f"calib/{frame:06d}.txt").write_text(OTHER if frame == 0 else CALIB)
        (training / f"label_2/{frame:06d}.txt").write_text(LABEL + DONTCARE)
        if frame < 3:
            np.ones((5, 4), np.float32).tofile(training / f"velodyne/{frame:06d}.bin")
    lists = tmp_path / "kitti/ImageSets"
    lists.mkdir()
    (lists / "val.txt").write_text("000000\n000002\n")
    return tmp_path / "kitti"


def named(reader):
    return [(r.sensor, r.capture_time_ns // 100_000_000) for _, r in reader.readings()]


def test_the_commonest_camera_is_left_whatever_the_split(folder):
    whole = [("velodyne", 0), ("left-2", 0), ("velodyne", 1), ("left", 1), ("velodyne", 2), ("left", 2), ("left", 3)]
    assert named(open_recording(folder)) == whole
    val = open_recording(folder, split="val")
    assert named(val) == [("velodyne", 0), ("left-2", 0), ("velodyne", 2), ("left", 2)]
    assert [t.objects[0].track for t in val.truth()] == [1, 3]
    assert "KITTI object val" in val.info().notes["source"]


def test_the_folder_itself_and_its_lists_are_the_same_recording(folder):
    assert named(open_recording(folder / "training", split="val")) == named(open_recording(folder, split="val"))
    info = open_recording(folder / "training").info()
    assert info.content_sha256 == open_recording(folder, split="training").info().content_sha256
    assert info.content_sha256 != open_recording(folder, split="val").info().content_sha256


def test_a_second_camera_is_read_where_there_is_one(folder):
    (folder / "training/image_3").mkdir()
    for frame in range(2):
        path = f"image_3/{frame:06d}.png"
        cv2.imwrite(str(folder / "training" / path), np.zeros((20, 62, 3), np.uint8))
    rig = open_recording(folder).info().rig
    assert sorted(rig.cameras) == ["left", "left-2", "right"]
    moved = rig.cameras["left"].ego_from_camera[:3, 3] - rig.cameras["right"].ego_from_camera[:3, 3]
    assert moved == pytest.approx([0, 11 / 30, 0])


def test_a_label_becomes_an_upright_box_and_a_share_of_what_is_seen(folder):
    truth = next(open_recording(folder).truth())
    car, nothing = truth.objects
    assert (car.label, car.visibility) == ("car", pytest.approx(0.75 * 2 / 3))
    box = car.box3d
    # The label stands 1.63 m below the camera, which is 0.1 m below the LiDAR at 1.73 m, 10.3 m ahead of it.
    assert (box.x, box.y, box.z) == pytest.approx((10.3, 0, 1.73 - 0.1 - 1.63 + 0.75))
    assert (box.length, box.width, box.height) == (4.0, 1.6, 1.5)
    assert box.yaw == pytest.approx(-np.pi / 2 - 0.3)
    assert (nothing.label, nothing.box3d, nothing.visibility) == ("dontcare", None, 1.0)
    assert nothing.box2d.x2 == 5


def test_pictures_may_be_jpegs(folder):
    path = folder / "training/image_2/000001.png"
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
    with pytest.raises(RecordingError, match=r"000001.png: is of the same frame as 000001.jpg"):
        open_recording(folder)
    path.unlink()
    payloads = {c: r.payload for c, r in open_recording(folder).readings()}
    assert payloads[4].encoding == "jpeg"


def test_a_test_folder_has_no_truth(folder):
    shutil.move(folder / "training", folder / "testing")
    shutil.rmtree(folder / "testing/label_2")
    (folder / "ImageSets/test.txt").write_text("000001\n")
    assert not list(open_recording(folder).truth())
    assert named(open_recording(folder, split="test")) == [("velodyne", 1), ("left", 1)]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("velodyne/000001.bin", bytes(35), "000001.bin: 35 bytes are not a whole number of points"),
        ("velodyne/000001.bin", np.full(8, np.nan, "<f4").tobytes(), "2 of 2 points .* first is point 0 at byte 0"),
        ("velodyne/one.bin", b"", "one.bin: the name is not a frame number"),
        ("image_2/000001.png", b"\x89PNG", "000001.png: 4 bytes that are no"),
        ("calib/000001.txt", None, "000001.txt: no such file, so frame 000001 has no calibration"),
        ("calib/000001.txt", b"P2: 1 2 3\n", "000001.txt: 'R0_rect' is missing"),
        ("calib/000001.txt", CALIB.replace("R0_rect: 1", "R0_rect: 2").encode(), "'R0_rect' holds no rotation"),
        ("calib/000001.txt", CALIB.replace("P2: 30", "P2: 0").encode(), "000001.txt: a projection that belongs to no"),
        ("label_2/000001.txt", LABEL.encode() + b"Car 1 2\n", "000001.txt:2: 3 columns where a label has 15"),
        ("label_2/000001.txt", LABEL.replace("Car", "Cat").encode(), "000001.txt:1: 'Cat' is none of the classes"),
        ("label_2/000001.txt", LABEL.replace("0.25", "x").encode(), "000001.txt:1: could not convert"),
        ("label_2/000001.txt", LABEL.replace("0.25", "nan").encode(), "000001.txt:1: a number is not finite"),
        ("label_2/000001.txt", LABEL.replace(" 20 15 ", " 9 15 ").encode(), "000001.txt:1: the image box .* is empty"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_left(folder, tmp_path, name, content, text):
    path = folder / "training" / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=text):
        convert(folder, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))


def test_a_frame_outside_the_split_does_no_harm(folder):
    (folder / "training/calib/000001.txt").unlink()
    assert len(named(open_recording(folder, split="val"))) == 4


def test_salvage_leaves_a_picture_without_calibration_out(folder):
    (folder / "training/calib/000001.txt").unlink()
    reader = open_recording(folder, salvage=True)
    assert ("velodyne", 1) in named(reader)
    assert ("left", 1) not in named(reader)
    assert "frame 000001 has no calibration" in reader.info().damage
    assert [t.time_ns for t in reader.truth()] == [0, 200_000_000, 300_000_000]


def test_salvage_leaves_malformed_labels_and_those_of_half_a_picture_out(folder, tmp_path):
    (folder / "training/label_2/000001.txt").write_text(LABEL + "Car 1 2\n")
    picture = folder / "training/image_2/000002.png"
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    reader = open_recording(folder, salvage=True)
    info = reader.info()
    assert "000001.txt:2: 3 columns" in info.damage
    assert "000002.png" in info.damage
    assert [t.time_ns for t in reader.truth()] == [0, 300_000_000]
    assert info.truths == 2
    assert ("left", 1) in named(reader)
    assert convert(folder, tmp_path / "a.mcap", salvage=True).truths == 2
    with pytest.raises(RecordingError, match=r"000001\.txt:2"):
        list(open_recording(folder).truth())


@pytest.mark.parametrize(
    ("content", "text"),
    [("000000\nfirst\n", "val.txt:2: 'first' is not a frame number"), ("000009\n", "val.txt:1: there is no scan and")],
)
def test_a_bad_list_is_named(folder, content, text):
    (folder / "ImageSets/val.txt").write_text(content)
    with pytest.raises(RecordingError, match=text):
        open_recording(folder, split="val")


def test_an_unknown_split_names_the_known_ones(folder):
    with pytest.raises(RecordingError, match="no split 'train' in it; there are: training, val"):
        open_recording(folder, split="train")


def test_a_folder_without_frames_is_refused(tmp_path):
    for name in ("velodyne", "calib"):
        (tmp_path / name).mkdir()
    with pytest.raises(RecordingError, match="no velodyne/"):
        open_recording(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80) | st.text(st.sampled_from("Car 0.1-9e\n"), max_size=99).map(str.encode))
def test_any_bytes_as_labels_or_calibration_are_read_or_refused(tmp_path, data):
    for name in ("velodyne", "calib", "image_2"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "velodyne/000000.bin").write_bytes(data)
    (tmp_path / "calib/000000.txt").write_bytes(data)
    (tmp_path / "label.txt").write_bytes(data)
    for read in (lambda: list(read_labels(tmp_path / "label.txt", np.eye(4), 1)), lambda: open_recording(tmp_path)):
        with suppress(FusionError):
            read()
