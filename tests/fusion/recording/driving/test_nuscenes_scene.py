"""Scenes of nuScenes' tables, in a small data set that the test writes with the fields of the public schema."""

import json
import shutil

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.geometry import apply, invert, rigid, rotation_z
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.recording.inspect import inspect_recording


def quaternion(yaw):
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


YAW, SPEED = 0.7, 4.0
START_US = 1_532_402_927_000_000
EGO_FROM_LIDAR = rigid(rotation_z(-np.pi / 2), np.array([0.94, 0.0, 1.84]))
CAR = {"size": [1.9, 4.5, 1.6], "ahead": 12.0, "left": 3.0, "points": 40}
CENTRE = np.array([12.0, 3.0, 0.8])


def map_from_ego(seconds):
    """The made-up vehicle drives straight on at 4 m/s."""
    return rigid(rotation_z(YAW), rotation_z(YAW) @ [SPEED * seconds, 0, 0] + [600.0, 1600.0, 0.0])


class Tree:
    """A small data set in the layout and with the fields of the public schema.

    One scene of three samples half a second apart, a sweep between each two; a car that keeps 12 m ahead and 3 m to the
    left, a barrier that stands, a pedestrian who is seen once.
    """

    def __init__(self, root):
        self.root, self.folder = root, root / "v1.0-mini"
        self.folder.mkdir()
        names = ("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose", "sample_annotation")
        self.tables = {name: [] for name in (*names, "instance", "category", "attribute", "visibility", "log", "map")}
        self.add("scene", "s1", name="scene-0061", description="", log_token="l1", nbr_samples=3)
        for level, token in (("v0-40", "1"), ("v80-100", "4")):
            self.add("visibility", token, level=level, description="")
        for name in ("vehicle.car", "movable_object.barrier", "human.pedestrian.adult", "animal"):
            self.add("category", f"c-{name}", name=name, description="")
        self.add("attribute", "a1", name="vehicle.moving", description="")
        self.sensors()
        for step in range(5):
            self.moment(step)
        self.annotations()
        self.write()

    def add(self, table, token, **fields):
        self.tables[table].append({"token": token, **fields})

    def row(self, table, token):
        return next(row for row in self.tables[table] if row["token"] == token)

    def write(self):
        for name, rows in self.tables.items():
            (self.folder / f"{name}.json").write_text(json.dumps(rows, indent=0))

    def sensors(self):
        optical = {"CAM_FRONT": [0.5, -0.5, 0.5, -0.5], "CAM_BACK": [0.5, -0.5, -0.5, 0.5]}
        for channel, modality in (
            *(("CAM_FRONT", "camera"), ("CAM_BACK", "camera")),
            *(("LIDAR_TOP", "lidar"), ("RADAR_FRONT", "radar")),
        ):
            self.add("sensor", f"x-{channel}", channel=channel, modality=modality)
            lidar = channel == "LIDAR_TOP"
            self.add(
                "calibrated_sensor",
                f"k-{channel}",
                sensor_token=f"x-{channel}",
                translation=EGO_FROM_LIDAR[:3, 3].tolist() if lidar else [1.7, 0.0, 1.5],
                rotation=quaternion(-np.pi / 2) if lidar else optical.get(channel, quaternion(0)),
                camera_intrinsic=[[60.0, 0, 40], [0, 60, 25], [0, 0, 1]] if modality == "camera" else [],
            )

    def moment(self, step):
        """Even steps are keyframes, odd ones sweeps of the LiDAR."""
        time_us, key = START_US + step * 250_000, step % 2 == 0
        sample = f"s-{(step + 1) // 2}"
        if key:
            near = {"prev": f"s-{step // 2 - 1}" if step else "", "next": f"s-{step // 2 + 1}" if step < 4 else ""}
            self.add("sample", sample, timestamp=time_us, scene_token="s1", **near)
        for channel in ("CAM_FRONT", "CAM_BACK", "LIDAR_TOP", "RADAR_FRONT") if key else ("LIDAR_TOP",):
            self.measure(channel, sample, time_us - (30_000 if "CAM" in channel else 0), key)

    def measure(self, channel, sample, time_us, key):
        suffix = ".jpg" if "CAM" in channel else ".pcd.bin"
        name = f"{'samples' if key else 'sweeps'}/{channel}/n000__{channel}__{time_us}{suffix}"
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        if "CAM" in channel:
            cv2.imwrite(str(self.root / name), np.full((50, 80, 3), 90, np.uint8))
        else:
            sweep().tofile(self.root / name)
        pose = map_from_ego((time_us - START_US) / 1e6)
        token = f"d-{channel}-{time_us}"
        self.add("ego_pose", token, timestamp=time_us, rotation=quaternion(YAW), translation=pose[:3, 3].tolist())
        size = {"height": 50, "width": 80} if "CAM" in channel else {"height": 0, "width": 0}
        self.add(
            "sample_data",
            token,
            sample_token=sample,
            ego_pose_token=token,
            calibrated_sensor_token=f"k-{channel}",
            timestamp=time_us,
            fileformat="jpg" if "CAM" in channel else "pcd",
            is_key_frame=key,
            filename=name,
            prev="",
            next="",
            **size,
        )

    def annotations(self):
        for number, name in enumerate(("vehicle.car", "movable_object.barrier", "human.pedestrian.adult"), 1):
            self.add("instance", f"i{number}", category_token=f"c-{name}")
        for n in range(3):
            pose = map_from_ego(n / 2)
            ahead = apply(pose, np.array([[CAR["ahead"], CAR["left"], 0.8]]))[0]
            near = {"prev": f"car-{n - 1}" if n else "", "next": f"car-{n + 1}" if n < 2 else ""}
            self.annotate(f"car-{n}", n, "i1", ahead, CAR["size"], YAW + 0.2, near, ["a1"])
            near = {"prev": f"wall-{n - 1}" if n else "", "next": f"wall-{n + 1}" if n < 2 else ""}
            self.annotate(f"wall-{n}", n, "i2", [650.0, 1650.0, 0.5], [2.0, 0.5, 1.0], 0.0, near, [])
        self.annotate(
            "man", 1, "i3", [610.0, 1620.0, 0.9], [0.6, 0.6, 1.8], 0.0, {"prev": "", "next": ""}, [], seen="1"
        )

    def annotate(self, token, sample, instance, place, size, yaw, near, attributes, seen="4"):
        self.add(
            "sample_annotation",
            token,
            sample_token=f"s-{sample}",
            instance_token=instance,
            visibility_token=seen,
            attribute_tokens=attributes,
            translation=[float(v) for v in place],
            size=size,
            rotation=quaternion(yaw),
            num_lidar_pts=CAR["points"] if instance == "i1" else 0,
            num_radar_pts=0,
            **near,
        )


def sweep():
    """40 points in the car's box and 60 around it, x y z intensity ring, in the LiDAR's frame."""
    rng = np.random.default_rng(0)
    width, length, height = CAR["size"]
    inside = rng.uniform(-0.49, 0.49, (CAR["points"], 3)) * [length, width, height] @ rotation_z(0.2).T
    around = rng.uniform(-30, 30, (60, 3)) * [1, 1, 0] + [0, 0, 5]
    ego = np.concatenate([inside + CENTRE, around])
    return np.column_stack([apply(invert(EGO_FROM_LIDAR), ego), np.full(100, 51), np.arange(100) % 32]).astype("<f4")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "data").mkdir()
    return Tree(tmp_path / "data")


def test_keyframes_and_sweeps_come_in_the_order_of_their_times(tree):
    reader = open_recording(tree.root)
    found = [(r.sensor, (r.capture_time_ns // 1000 - START_US) // 1000) for _, r in reader.readings()]
    assert found[:5] == [
        *(("cam-back", -30), ("cam-front", -30)),
        *(("lidar-top", 0), ("lidar-top", 250), ("cam-back", 470)),
    ]
    assert [c for c, _ in reader.readings(7)] == list(range(8, 12))
    info = reader.info()
    assert (info.format, info.truths, info.continuous) == ("nuscenes", 3, True)
    assert info.sensors["lidar-top"].rate_hz == pytest.approx(4)
    assert info.unread == ("ring of each LiDAR point", "RADAR_FRONT (radar)")
    assert "v1.0-mini scene-0061" in info.notes["source"]


def test_a_table_folder_is_the_same_recording(tree):
    info = open_recording(tree.folder).info()
    assert info.content_sha256 == open_recording(tree.root, split="scene-0061").info().content_sha256


def test_cameras_look_where_they_are_mounted(tree):
    rig = open_recording(tree.root).info().rig
    assert rig.cameras["cam-front"].ego_from_camera[:3, 2] == pytest.approx([1, 0, 0])
    assert rig.cameras["cam-back"].ego_from_camera[:3, 2] == pytest.approx([-1, 0, 0])
    assert rig.ego_from_lidar["lidar-top"] == pytest.approx(EGO_FROM_LIDAR)
    (place,), (seen,) = rig.cameras["cam-front"].project(np.array([[11.7, 1.0, 1.5]]))
    assert seen
    assert place == pytest.approx([40 - 6, 25])


def test_boxes_are_in_the_ego_frame_of_their_keyframe(tree):
    for truth in open_recording(tree.root).truth():
        car = truth.objects[0]
        assert (car.label, car.track, car.condition, car.visibility) == ("car", 1, "moving", 0.9)
        box = car.box3d
        assert (box.x, box.y, box.z) == pytest.approx((CAR["ahead"], CAR["left"], 0.8))
        assert (box.length, box.width, box.height) == (4.5, 1.9, 1.6)
        assert box.yaw == pytest.approx(0.2)


def test_boxes_hold_the_counted_points(tree, sweeps, held):
    truth = next(open_recording(tree.root).truth())
    points = next(iter(sweeps(open_recording(tree.root)).values()))
    assert held(points, truth.objects[0].box3d).sum() == CAR["points"]


def test_velocity_is_over_ground_along_the_ego_axes(tree):
    truths = list(open_recording(tree.root).truth())
    for truth in truths:
        car, wall = truth.objects[:2]
        assert car.velocity == pytest.approx((SPEED, 0), abs=1e-6)
        assert wall.velocity == pytest.approx((0, 0))
    man = truths[1].objects[2]
    assert (man.label, man.velocity, man.visibility) == ("pedestrian", None, 0.2)


def test_labels_too_far_apart_tell_no_velocity(tree):
    tree.row("sample", "s-2")["timestamp"] += 2_000_000
    tree.write()
    first, second, _ = open_recording(tree.root).truth()
    assert first.objects[0].velocity is not None, "half a second to the next"
    assert second.objects[0].velocity is not None, "3 s over two sides are at the limit"
    tree.row("sample", "s-2")["timestamp"] += 1
    tree.write()
    assert list(open_recording(tree.root).truth())[1].objects[0].velocity is None


def test_poses_are_the_vehicles(tree):
    poses = list(open_recording(tree.root).poses())
    assert len(poses) == 5
    for step, pose in enumerate(poses):
        assert pose.time_ns == (START_US + step * 250_000) * 1000
        assert pose.map_from_ego == pytest.approx(map_from_ego(step / 4))


def test_without_sweeps_keyframes_are_read(tree):
    shutil.rmtree(tree.root / "sweeps")
    info = open_recording(tree.root).info()
    assert info.sensors["lidar-top"].count == 3
    assert "keyframes only" in info.notes["sweeps"]


def test_other_categories_keep_their_name(tree):
    tree.row("instance", "i3")["category_token"] = "c-animal"
    tree.write()
    assert list(open_recording(tree.root).truth())[1].objects[2].label == "animal"


def test_one_scene_of_several_is_named_by_the_split(tree):
    tree.add("scene", "s2", name="scene-0103", description="", log_token="l1", nbr_samples=0)
    tree.write()
    with pytest.raises(RecordingError, match=r"several scenes; give one as the split; .*: scene-0061, scene-0103"):
        open_recording(tree.root)
    with pytest.raises(RecordingError, match="no scene 'scene-0001' in it"):
        open_recording(tree.root, split="scene-0001")
    assert open_recording(tree.root, split="scene-0061").info().truths == 3


def test_the_conversion_keeps_all_of_it(tree, tmp_path):
    done = convert(tree.root, tmp_path / "a.mcap", split="scene-0061")
    assert (done.readings["lidar-top"], done.truths, done.poses) == (5, 3, 5)
    native = open_recording(tmp_path / "a.mcap")
    for one, other in zip(open_recording(tree.root).truth(), native.truth(), strict=True):
        assert [(o.track, o.label, o.condition, o.velocity) for o in one.objects] == [
            (o.track, o.label, o.condition, o.velocity) for o in other.objects
        ]
    assert native.info().continuous
    assert native.info().notes["not-carried"] == "ring of each LiDAR point, RADAR_FRONT (radar)"


@pytest.mark.parametrize(
    ("table", "token", "fields", "text"),
    [
        (
            "sample_data",
            LIDAR := f"d-LIDAR_TOP-{START_US}",
            {"calibrated_sensor_token": "gone"},
            "refers to 'gone'",
        ),
        ("sample_data", LIDAR, {"ego_pose_token": "gone"}, r"record 2.ego_pose_token: refers to 'gone'"),
        ("sample_data", LIDAR, {"filename": "../secret"}, "'../secret' is not a file in"),
        ("sample_data", LIDAR, {"filename": "samples/none.bin"}, "none.bin: no such file, though .*record 2 names"),
        ("sample_data", LIDAR, {"timestamp": "noon"}, "timestamp: 'noon' is not a number"),
        ("sample_data", LIDAR, {"timestamp": -5}, "is not a time since 1970"),
        ("sample_data", LIDAR, {"is_key_frame": False}, "sample s-0 has no keyframe of LIDAR_TOP"),
        ("calibrated_sensor", "k-CAM_BACK", {"camera_intrinsic": []}, r"camera_intrinsic: .* shape \(3, 3\)"),
        ("calibrated_sensor", "k-CAM_BACK", {"camera_intrinsic": [[0] * 3] * 3}, "focal lengths 0 and 0"),
        ("calibrated_sensor", "k-LIDAR_TOP", {"rotation": [2, 0, 0, 0]}, "not a quaternion of length 1"),
        ("calibrated_sensor", "k-LIDAR_TOP", {"sensor_token": "gone"}, "sensor_token: refers to 'gone'"),
        ("sample_annotation", "car-0", {"translation": [1, 2, float("nan")]}, "is not finite numbers"),
        ("sample_annotation", "car-0", {"next": "gone"}, "record 0.next: refers to 'gone'"),
        ("sample_annotation", "car-0", {"size": None}, "size: None is not numbers of shape"),
        ("instance", "i1", {"category_token": "gone"}, "category_token: refers to 'gone'"),
    ],
)
def test_a_bad_record_is_named(tree, table, token, fields, text):
    tree.row(table, token).update(fields)
    tree.write()
    with pytest.raises(RecordingError, match=rf"data.*{text}"):
        open_recording(tree.root)


def test_a_sensor_calibrated_in_two_ways_is_refused(tree):
    tree.tables["calibrated_sensor"].append(tree.row("calibrated_sensor", "k-LIDAR_TOP") | {"token": "other"})
    tree.row("sample_data", f"d-LIDAR_TOP-{START_US + 500_000}")["calibrated_sensor_token"] = "other"
    tree.write()
    with pytest.raises(RecordingError, match="lidar-top is calibrated otherwise than before in this scene"):
        open_recording(tree.root)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "ego_pose.json: no such file; nuScenes' tables are all needed"),
        ("{}", r"ego_pose.json: character 0: '\[' is expected"),
        ('[{"token": "a"}', r"character 15: ',' is expected"),
        ('[{"token": ', "character 1: no whole object"),
        ("[1]", "character 1: an object is expected"),
        ("[{}]", "record 0: 'token' is missing"),
    ],
)
def test_a_broken_table_is_named(tree, content, text):
    path = tree.folder / "ego_pose.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecordingError, match=text):
        open_recording(tree.root)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (sweep().tobytes()[:-3], "1997 bytes are not a whole number of points of 20 bytes; .* after byte 1980"),
        (np.where(np.arange(500) == 41, np.nan, 1).astype("<f4").tobytes(), "1 of 100 points .* 8 at byte 160"),
    ],
)
def test_a_bad_scan_is_named_or_salvaged(tree, tmp_path, content, text):
    path = tree.root / tree.row("sample_data", f"d-LIDAR_TOP-{START_US}")["filename"]
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=text):
        convert(tree.root, tmp_path / "a.mcap")
    assert not list(tmp_path.glob("a.mcap*"))
    reader = open_recording(tree.root, salvage=True)
    assert len(next(r for _, r in reader.readings() if r.sensor == "lidar-top").payload.points) == 99
    assert path.name in reader.info().damage
    assert "DAMAGED" in str(inspect_recording(tree.root, salvage=True))
