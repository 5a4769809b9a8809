"""Frames of a made-up drive through a world that stands still, and of the real recordings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import ConfigError, InputError, RecordingError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, apply, invert, rigid, rotation_z
from fusion.preparation.boxes import box3d_of
from fusion.recording.base import EgoPose
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.training.driving.augment import augmented, training_recipe
from fusion.training.driving.frames import DrivingFrames
from fusion.training.driving.spec import FrameSpec, frame_spec
from fusion.types import Box3D, Image, PointCloud, Truth, TruthObject

DATA = Path(__file__).parents[3] / "../shared/data"
MS = 1_000_000
START_NS, SWEEP_NS, SWEEPS = 1_700_000_000_000_000_000, 50 * MS, 25
LATE_NS = 20 * MS
TOML = """
name = "drive"
title = "A made-up drive"
classes = ["car", "cone"]
prompt = "What is it?"
[sensors.ahead]
modality = "camera"
rate_hz = 20
[sensors.behind]
modality = "camera"
rate_hz = 20
[sensors.roof]
modality = "lidar"
rate_hz = 20
[[slots]]
name = "object"
question = "What is it?"
options = ["car", "cone", "nothing"]
"""
WORLD = np.random.default_rng(3).uniform([0, -20, 0.2], [40, 20, 3], (200, 3))
SPEC = FrameSpec(192, 96, 2000, 4, 3, ("car", "cone"))


def place(number: float) -> np.ndarray:
    """`map_from_ego` at sweep `number` of a vehicle at 12 m/s."""
    return rigid(rotation_z(0.01 * number), np.array([0.6 * number, 0.05 * number, 0.0]))


def rig() -> Rig:
    look = invert(CAMERA_OPTICAL_FROM_BODY)
    mounts = {"ahead": rigid(np.eye(3), np.array([1.5, 0, 1.5])), "behind": rigid(rotation_z(np.pi), np.zeros(3))}
    cameras = {name: CameraCalibration.pinhole(192, 108, 1.3, mount @ look) for name, mount in mounts.items()}
    return Rig(cameras, {"roof": rigid(rotation_z(-1.5), np.array([0.9, 0.0, 1.8]))})


def truth(number: int) -> Truth:
    x, y, _ = apply(invert(place(number)), np.array([[20.0, 3.0, 0.0]]))[0]
    box = Box3D(x, y, 0.8, 4.0, 2.0, 1.6, -0.01 * number)
    near, far = (Box3D(d, -4.0, 0.5, 0.5, 0.5, 1.0, 0.0) for d in (2.0, 38.0))
    return Truth(
        START_NS + number * SWEEP_NS,
        (
            TruthObject(1, "cone", box3d=far),
            TruthObject(2, "car", box3d=box, velocity=(1.5, -0.5)),
            TruthObject(3, "animal", box3d=near),
            TruthObject(4, "cone", box3d=near),
            TruthObject(5, "cone", box3d=Box3D(39.0, 9.0, 0.5, 0.5, 0.5, 1.0, 0.0)),
        ),
    )


def write(path: Path, *, poses: bool = True, told: bool = True, behind: bool = True) -> Path:
    """Sweeps at 20 Hz; pictures 20 ms before each, as grey as their number times eight; truth of every tenth sweep."""
    made = rig()
    with RecordingWriter(path, made, "drive") as writer:
        for number in range(SWEEPS):
            time_ns = START_NS + number * SWEEP_NS
            picture = Image(np.full((108, 192, 3), 8 * number, np.uint8))
            for name in ("ahead", "behind")[: 1 + behind]:
                writer.camera(name, time_ns - LATE_NS, picture)
            seen = apply(invert(place(number) @ made.ego_from_lidar["roof"]), WORLD)
            writer.lidar("roof", time_ns, PointCloud(np.column_stack([seen, np.full(200, 0.5)]).astype(np.float32)))
            if poses:
                writer.pose(EgoPose(time_ns, place(number)))
            if told and number % 10 == 4:
                writer.truth(truth(number))
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("tasks") / "drive.toml"
    path.write_text(TOML)
    return Task.load(str(path))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory, task: Task) -> DrivingFrames:
    return DrivingFrames(write(tmp_path_factory.mktemp("drives") / "drive.mcap"), task, SPEC)


def test_each_moment_with_truth_is_a_frame(drive: DrivingFrames) -> None:
    assert len(drive) == 3
    assert [f.time_ns for f in drive.plan.frames] == [START_NS + n * SWEEP_NS for n in (4, 14, 24)]
    assert drive.plan.unmatched == 0
    assert [int(f["images"][0, 0, -1, 0]) for f in drive] == [32, 112, 192]
    assert len(drive[1:]) == 2
    np.testing.assert_array_equal(drive[-1]["points"], drive[2]["points"])
    with pytest.raises(IndexError):
        drive[3]


def test_every_sweep_is_a_frame_when_asked_and_keeps_its_truth(drive: DrivingFrames, task: Task) -> None:
    frames = DrivingFrames(drive.path, task, SPEC, every=True)
    assert [f.time_ns for f in frames.plan.frames] == [START_NS + n * SWEEP_NS for n in range(SWEEPS)]
    assert [n for n, f in enumerate(frames.plan.frames) if f.truth] == [4, 14, 24]
    for key, value in frames[14].items():
        np.testing.assert_array_equal(value, drive[1][key])


def test_a_sensor_that_is_left_out_has_never_been_there(drive: DrivingFrames, task: Task) -> None:
    frames = DrivingFrames(drive.path, task, SPEC)
    whole = frames.plan
    frames.plan = whole.without({"roof", "behind"})
    frame = frames[1]
    assert frame["camera_available"].tolist() == [True, False]
    assert not frame["images"][1].any()
    assert not frame["lidar_available"]
    assert not frame["points_valid"].any()
    assert [f.time_ns for f in frames.plan.frames] == [f.time_ns for f in whole.frames]
    assert set(whole.frames[1].entries) == {"ahead", "behind", "roof"}
    assert frames.plan.until("roof", whole.frames[1].time_ns, 3, frames.plan.frames[1]) == ()


def test_shapes_and_types(drive: DrivingFrames) -> None:
    told = {key: (value.shape, str(value.dtype)) for key, value in drive[0].items()}
    assert told == {
        "images": ((2, 3, 96, 192), "uint8"),
        "rays": ((2, 72, 48), "float32"),
        "image_from_ego": ((2, 3, 4), "float32"),
        "camera_available": ((2,), "bool"),
        "camera_age": ((2,), "float32"),
        "points": ((2000, 5), "float32"),
        "points_valid": ((2000,), "bool"),
        "lidar_available": ((), "bool"),
        "lidar_age": ((), "float32"),
        "truth_label": ((3,), "int64"),
        "truth_box3d": ((3, 8), "float32"),
        "truth_velocity": ((3, 2), "float32"),
        "truth_has_velocity": ((3,), "bool"),
        "truth_count": ((), "int64"),
        "has_truth": ((), "bool"),
    }


def test_a_world_that_stands_still_lines_up_over_sweeps(drive: DrivingFrames) -> None:
    frame = drive[1]
    points = frame["points"][frame["points_valid"]]
    expected = apply(invert(place(14)), WORLD)
    assert len(points) == 4 * len(WORLD)
    for number in range(4):
        part = points[number * 200 : (number + 1) * 200]
        np.testing.assert_allclose(part[:, :3], expected, atol=2e-3)
        np.testing.assert_allclose(part[:, 4], -0.05 * number, atol=1e-6)


def test_pictures_have_their_age_and_the_motion_since_is_taken_out(drive: DrivingFrames) -> None:
    frame, camera = drive[1], rig().cameras["ahead"]
    np.testing.assert_allclose(frame["camera_age"], 0.02, atol=1e-6)
    point = np.array([22.0, 2.0, 1.0])  # in the map
    seen = camera.project(apply(invert(drive_place(14 - 0.4)), point[None]))[0][0]
    u, v, d = frame["image_from_ego"][0] @ np.array([*apply(invert(place(14)), point[None])[0], 1.0])
    top = 108 - 96
    np.testing.assert_allclose([u / d * 192, v / d * 96], [seen[0], seen[1] - top], atol=0.05)


def drive_place(number: float) -> np.ndarray:
    """Between sweeps the places told are joined by straight lines."""
    before = int(number)
    share = number - before
    turned = rotation_z(0.01 * number)
    return rigid(turned, (1 - share) * place(before)[:3, 3] + share * place(before + 1)[:3, 3])


def test_truth_is_of_the_classes_nearest_first(drive: DrivingFrames) -> None:
    frame = drive[1]
    assert frame["truth_label"].tolist() == [1, 0, 1]
    assert int(frame["truth_count"]) == 3
    box = box3d_of(frame["truth_box3d"][1])
    assert (box.length, box.width, box.height) == pytest.approx((4, 2, 1.6), rel=1e-5)
    assert (box.x, box.yaw) == pytest.approx((truth(14).objects[1].box3d.x, -0.14), abs=1e-5)
    assert frame["truth_has_velocity"].tolist() == [False, True, False]
    np.testing.assert_allclose(frame["truth_velocity"][1], [1.5, -0.5])


def test_a_late_sensor_has_the_data_it_had_then(drive: DrivingFrames) -> None:
    frame = drive.frame(1, {"ahead": 0.2, "roof": 0.1})
    np.testing.assert_allclose(frame["camera_age"], [0.22, 0.02], atol=1e-6)
    assert [int(image[0, -1, 0]) for image in frame["images"]] == [80, 112]
    assert float(frame["lidar_age"]) == pytest.approx(0.1)
    points = frame["points"][frame["points_valid"]]
    np.testing.assert_allclose(points[:200, :3], apply(invert(place(14)), WORLD), atol=2e-3)
    np.testing.assert_allclose(points[:200, 4], -0.1, atol=1e-6)
    start = drive.frame(0, {"ahead": 0.5})  # nothing is that old: the camera keeps what it has
    assert float(start["camera_age"][0]) == pytest.approx(0.02)


def test_what_the_recording_does_not_tell(tmp_path: Path, task: Task) -> None:
    frames = DrivingFrames(write(tmp_path / "bare.mcap", poses=False, told=False, behind=False), task, SPEC)
    assert len(frames) == SWEEPS  # one camera is there: its pictures make the frames
    frame = frames[10]
    assert frames.uncompensated == 3 + 1  # sweeps of the past, and the newest, which is not of the picture's time
    assert not frame["has_truth"]
    assert frame["truth_count"] == 0
    assert set(frame["truth_label"]) == {-1}
    assert frame["camera_available"].tolist() == [True, False]
    with pytest.raises(InputError, match="no sensor of task pcb"):
        DrivingFrames(tmp_path / "bare.mcap", Task.load("pcb"), SPEC)


def test_points_are_thinned_evenly_and_cut_to_the_reach(tmp_path: Path, task: Task) -> None:
    small = FrameSpec(192, 96, 50, 1, 3, ("car",), reach_m=10.0)
    frame = DrivingFrames(write(tmp_path / "d.mcap"), task, small)[0]
    near = (np.abs(apply(invert(place(4)), WORLD)[:, :2]) <= 10).all(axis=1).sum()
    assert frame["points_valid"].sum() == min(50, near)
    assert (np.abs(frame["points"][:, :2]) <= 10).all()


def test_only_described_tasks_have_frames(task: Task) -> None:
    assert frame_spec(Task.load("kitti")).in_view
    with pytest.raises(ConfigError, match=r"drive.*kitti, nuscenes"):
        frame_spec(task)


def real(name: str, task: str) -> DrivingFrames:
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not here")
    described = Task.load(task)
    return DrivingFrames(DATA / name, described, frame_spec(described))


def test_the_nuscenes_keyframe_is_whole() -> None:
    frames = real("nuscenes_keyframe", "nuscenes")
    (frame,) = list(frames)
    assert frame["camera_available"].all()
    assert frames.cameras == (
        *("cam-front", "cam-front-right", "cam-back-right", "cam-back", "cam-back-left", "cam-front-left"),
    )
    ages = [0.035491, 0.027612, 0.020058, 0.010426, 0.000528, 0.043107]
    np.testing.assert_allclose(frame["camera_age"], ages, atol=1e-6)
    assert float(frame["lidar_age"]) == 0
    names = [frames.spec.classes[i] for i in frame["truth_label"] if i >= 0]
    counts = {name: names.count(name) for name in set(names)}
    assert sum(counts.values()) == int(frame["truth_count"]) == 68  # of 69, one is of no class
    assert (counts["pedestrian"], counts["barrier"], counts["car"], counts["traffic-cone"]) == (30, 22, 8, 3)
    whole = FrameSpec(704, 256, 40_000, 10, 96, frames.spec.classes, reach_m=1000.0)
    (every,) = list(DrivingFrames(DATA / "nuscenes_keyframe", frames.task, whole))
    assert every["points_valid"].sum() == 34_688
    assert 20_000 < frame["points_valid"].sum() < 34_688 - 8_000  # a quarter are on the car itself


def test_what_is_in_a_nuscenes_box_is_seen_in_a_picture() -> None:
    (frame,) = list(real("nuscenes_keyframe", "nuscenes"))
    centres = np.column_stack([frame["truth_box3d"][:68, :3], np.ones(68)])
    u, v, d = np.einsum("vij,nj->ivn", frame["image_from_ego"], centres)
    seen = ((d > 1) & (u > 0) & (u < d) & (v > 0) & (v < d)).any(axis=0)
    assert seen.mean() > 0.9  # six cameras see all around


def test_kitti_object_frames_have_the_truth_of_their_classes() -> None:
    frames = real("kitti_object", "kitti")
    labels = [[frames.spec.classes[i] for i in f["truth_label"] if i >= 0] for f in frames]
    assert labels == [["pedestrian"], ["cyclist", "car"]]
    for frame in frames:
        assert frame["camera_available"].all()  # one of the pictures is of another calibration, `left-2`
        assert frame["lidar_available"]
        points = frame["points"][frame["points_valid"]]
        u, _, d = frame["image_from_ego"][0] @ np.column_stack([points[:, :3], np.ones(len(points))]).T
        assert ((u >= -1e-3) & (u <= d + 1e-3) & (d > 0)).all()
    pedestrian = frames[0]["truth_box3d"][0]
    local = (frames[0]["points"][:, :3] - pedestrian[:3]) @ rotation_z(np.arctan2(*pedestrian[6:8]))
    held = (np.abs(local) <= np.exp(pedestrian[3:6]) / 2).all(axis=1) & frames[0]["points_valid"]
    assert 350 < held.sum() < 400


def test_a_kitti_drive_without_boxes_in_space_gives_every_picture() -> None:
    frames = real("kitti_raw/2011_09_26/2011_09_26_drive_0052_sync", "kitti")
    assert len(frames) == 6
    assert not frames[0]["has_truth"]
    late = frames.frame(3, {"velodyne": 0.2})
    assert float(late["lidar_age"]) == pytest.approx(0.2)
    np.testing.assert_array_equal(late["points"][:, :4], frames[1]["points"][:, :4])


def test_a_split_that_is_not_there_is_named() -> None:
    real("kitti_object", "kitti")
    described = Task.load("kitti")
    with pytest.raises(RecordingError, match="no split 'night'"):
        DrivingFrames(DATA / "kitti_object", described, frame_spec(described), "night")


def test_the_same_draws_give_the_same_changed_frame(drive: DrivingFrames) -> None:
    recipe = replace(training_recipe(), late=1.0, lidar_only=0.0, camera_only=0.0, camera_drop=0.0)
    one, same, other = (augmented(drive, 1, np.random.default_rng(seed), recipe) for seed in (1, 1, 2))
    for key, value in one.items():
        np.testing.assert_array_equal(same[key], value, err_msg=key)
    assert not np.array_equal(other["points"], one["points"])
    assert one["camera_age"].min() >= 0.02
    assert one["camera_age"].max() > 0.05


def test_independent_frames_borrow_nothing_from_each_other(tmp_path: Path, task: Task) -> None:
    path, made = tmp_path / "stills.mcap", rig()
    rows = np.column_stack([WORLD, np.full(200, 0.5)]).astype(np.float32)
    with RecordingWriter(
        path, Rig({"ahead": made.cameras["ahead"]}, made.ego_from_lidar), "drive", continuous=False
    ) as w:
        for number in range(3):
            time_ns = START_NS + number * 100 * MS
            if number != 2:
                w.lidar("roof", time_ns, PointCloud(rows))
            w.camera("ahead", time_ns, Image(np.full((108, 192, 3), 50 + number, np.uint8)))
    frames = DrivingFrames(path, task, SPEC)
    assert [bool(frame["lidar_available"]) for frame in frames] == [True, True, False]
    late = frames.frame(1, {"ahead": 0.1, "roof": 0.1})
    assert late["points_valid"].sum() == len(WORLD)  # one sweep, its own
    assert (float(late["lidar_age"]), float(late["camera_age"][0])) == (0, 0)


def test_frames_and_pictures_need_no_torch() -> None:
    modules = "fusion.training.driving.augment, fusion.training.driving.frames, fusion.evaluation.scene_picture"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
