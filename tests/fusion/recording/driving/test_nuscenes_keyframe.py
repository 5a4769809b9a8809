"""The real nuScenes keyframe against the data set's own counts, and what an `info.json` may get wrong."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.geometry import apply, rigid, rotation_z
from fusion.recording import open_recording
from fusion.recording.convert import convert
from fusion.recording.inspect import inspect_recording, projection_picture

PLACE = rigid(rotation_z(-np.pi / 2), np.array([0.94, 0.0, 1.84]))
DATA = Path(__file__).parents[4] / "../shared/data/nuscenes_keyframe"


@pytest.fixture(scope="module")
def real():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not here")
    return open_recording(DATA)


@pytest.fixture(scope="module")
def told(real):
    (entry,) = json.loads((DATA / "info.json").read_text())["data_list"]
    return entry


def test_six_cameras_and_the_sweep_have_their_own_times(real):
    times = {r.sensor: r.capture_time_ns for _, r in real.readings()}
    assert times["lidar-top"] == 1_532_402_927_647_951_000
    assert times["cam-front"] == 1_532_402_927_612_460_000
    assert sorted(times) == [
        *("cam-back", "cam-back-left", "cam-back-right", "cam-front", "cam-front-left", "cam-front-right"),
        "lidar-top",
    ]
    skews = [(times["lidar-top"] - t) / 1e6 for name, t in times.items() if name != "lidar-top"]
    assert 0.5 < min(skews) < max(skews) < 44
    assert list(times.values()) == sorted(times.values())


def test_pictures_and_points_are_the_files_own(real, told):
    payloads = {r.sensor: r.payload for _, r in real.readings()}
    assert payloads["cam-back"].encoded == (DATA / told["images"]["CAM_BACK"]["img_path"]).read_bytes()
    stored = np.fromfile(DATA / told["lidar_points"]["lidar_path"], "<f4").reshape(-1, 5)
    points = payloads["lidar-top"].points
    assert len(points) == 34_688
    assert np.array_equal(points[:, :3], stored[:, :3])
    assert np.array_equal(points[:, 3], stored[:, 3] / np.float32(255))
    assert "ring of each LiDAR point" in real.info().unread


def test_boxes_hold_as_many_points_as_the_data_set_counted(real, told, sweeps, held):
    points = next(iter(sweeps(real).values()))
    (truth,) = real.truth()
    counts = np.array([held(points, thing.box3d).sum() for thing in truth.objects])
    stored = np.array([i["num_lidar_pts"] for i in told["instances"]])
    assert truth.time_ns == 1_532_402_927_647_951_000
    assert len(counts) == 69
    assert np.corrcoef(counts, stored)[0, 1] > 0.9995
    assert (counts == stored).mean() > 0.9
    assert counts.sum() == pytest.approx(stored.sum(), rel=0.03)


def test_classes_are_the_detection_tasks(real):
    (truth,) = real.truth()
    labels = [thing.label for thing in truth.objects]
    counts = {label: labels.count(label) for label in labels}
    assert counts["pedestrian"] == 30
    assert counts["barrier"] == 22
    assert counts["traffic-cone"] == 3
    assert counts["construction-vehicle"] == counts["bicycle"] == counts["bus"] == counts["other"] == 1


def test_what_moves_moves_where_it_is_headed(real, told):
    (truth,) = real.truth()
    moving = 0
    for thing, instance in zip(truth.objects, told["instances"], strict=True):
        if np.isnan(instance["velocity"]).any():
            assert thing.velocity is None
            continue
        speed = np.hypot(*thing.velocity)
        assert speed == pytest.approx(np.hypot(*instance["velocity"]), abs=0.01)
        if speed > 1:
            moving += 1
            along = np.dot(thing.velocity, [np.cos(thing.box3d.yaw), np.sin(thing.box3d.yaw)])
            assert along > 0.98 * speed
    assert moving > 20


def test_points_of_a_box_lie_in_its_box_in_each_picture(real, told, sweeps, held):
    """Cameras fire up to 43 ms before the sweep ends; what is seen twice is counted in both."""
    points, rig = next(iter(sweeps(real).values())), real.info().rig
    (truth,) = real.truth()
    shares = []
    for channel, boxes in told["cam_instances"].items():
        camera = rig.cameras[channel.lower().replace("_", "-")]
        lidar_to_camera = np.array(told["images"][channel]["lidar2cam"])
        centres = apply(lidar_to_camera, np.array([i["bbox_3d"][:3] for i in told["instances"]]))
        for box in boxes:
            thing = truth.objects[int(np.argmin(np.linalg.norm(centres - box["bbox_3d"][:3], axis=1)))]
            places, seen = camera.project(points[held(points, thing.box3d)])
            if seen.sum() >= 10:
                x1, y1, x2, y2 = box["bbox"]
                within = (places[seen] >= [x1 - 1, y1 - 1]) & (places[seen] <= [x2 + 1, y2 + 1])
                shares.append(within.all(axis=1).mean())
    assert len(shares) >= 15
    assert min(shares) >= 0.9


def test_the_conversion_is_the_same_recording(real, tmp_path):
    done = convert(DATA, tmp_path / "a.mcap")
    assert (sum(done.readings.values()), done.truths, done.poses) == (7, 1, 1)
    native = open_recording(tmp_path / "a.mcap")
    for (_, one), (_, other) in zip(real.readings(), native.readings(), strict=True):
        assert (one.sensor, one.capture_time_ns) == (other.sensor, other.capture_time_ns)
    (one,), (other,) = real.truth(), native.truth()
    assert [(o.label, o.velocity, o.track) for o in one.objects] == [
        (o.label, o.velocity, o.track) for o in other.objects
    ]
    (pose,), (again,) = real.poses(), native.poses()
    assert np.allclose(pose.map_from_ego, again.map_from_ego, atol=1e-6)
    assert not native.info().continuous
    assert "BY-NC-SA 4.0" in native.info().notes["licence"]


def test_the_picture_is_of_the_front_unless_another_is_named(real, tmp_path):
    assert projection_picture(DATA, tmp_path / "p.png") == "lidar-top in cam-front"
    assert cv2.imread(str(tmp_path / "p.png")).shape == (900, 1600, 3)
    assert projection_picture(DATA, tmp_path / "p.png", camera="cam-back-left") == "lidar-top in cam-back-left"
    with pytest.raises(RecordingError, match="no calibrated camera 'back' in it; there are: cam-"):
        projection_picture(DATA, tmp_path / "p.png", camera="back")
    assert "cam-back-right   camera       1" in str(inspect_recording(DATA))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "keyframe"
    made.mkdir()
    cv2.imwrite(str(made / "f.jpg"), np.zeros((50, 80, 3), np.uint8))
    np.ones((9, 5), "<f4").tofile(made / "l.bin")
    write(made, {})
    return made


def write(folder, changes):
    place, front = PLACE.tolist(), np.eye(4).tolist()
    keyframe = {
        "token": "t",
        "timestamp": 1532402927.647951,
        "ego2global": np.eye(4).tolist(),
        "images": {
            "CAM_FRONT": {
                "img_path": "f.jpg",
                "cam2img": [[60, 0, 40], [0, 60, 25], [0, 0, 1]],
                "cam2ego": front,
                "timestamp": 1532402927.6,
            }
        },
        "lidar_points": {"lidar_path": "l.bin", "lidar2ego": place},
        "instances": [{"bbox_3d": [0, 9, 0, 4, 2, 1.5, 0.3], "bbox_label_3d": 0, "velocity": [0, 2]}],
    }
    info = {"metainfo": {"dataset": "nuscenes", "categories": {"car": 0}}, "data_list": [keyframe]}
    (folder / "info.json").write_text(json.dumps(info | changes))
    return keyframe


def test_boxes_and_velocity_are_turned_into_the_ego_frame(folder):
    (truth,) = open_recording(folder).truth()
    (car,) = truth.objects
    assert (car.box3d.x, car.box3d.y, car.box3d.z) == pytest.approx((9.94, 0, 1.84))
    assert car.box3d.yaw == pytest.approx(0.3 - np.pi / 2)
    assert car.velocity == pytest.approx((2, 0))


@pytest.mark.parametrize(
    ("part", "key", "value", "text"),
    [
        ("lidar_points", "lidar2ego", [[1, 0, 0, 0]], r"data_list\[0\].lidar_points.lidar2ego: .* shape \(4, 4\)"),
        ("lidar_points", "lidar2ego", np.diag([1, 1, -1, 1]).tolist(), "lidar2ego: not a rigid transform"),
        ("lidar_points", "lidar_path", "gone.bin", "gone.bin: no such file, though"),
        ("lidar_points", "lidar_path", "/etc/passwd", "'/etc/passwd' is not a file in"),
        ("lidar_points", "lidar_path", 7, "7 is not a string"),
        ("images", "CAM_FRONT", {}, "CAM_FRONT: 'img_path' is missing"),
        ("images", "CAM_FRONT", [], r"CAM_FRONT: \[\] is not an object"),
    ],
)
def test_a_wrong_value_is_named(folder, part, key, value, text):
    keyframe = write(folder, {})
    keyframe[part][key] = value
    write(folder, {"data_list": [keyframe]})
    with pytest.raises(RecordingError, match=text):
        open_recording(folder)


def test_keyframes_of_another_rig_are_refused(folder):
    one, other = write(folder, {}), write(folder, {})
    other["timestamp"] += 0.5
    write(folder, {"data_list": [one, other]})
    assert open_recording(folder).info().sensors["lidar-top"].count == 2
    other["lidar_points"]["lidar2ego"] = np.eye(4).tolist()
    write(folder, {"data_list": [one, other]})
    with pytest.raises(RecordingError, match=r"data_list\[1\]: lidar-top is placed otherwise"):
        open_recording(folder)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"nuscenes": ', "info.json: not JSON"),
        ('["nuscenes"]', "is not an object"),
        ('{"dataset": "nuscenes"}', "'data_list' is missing"),
        ('{"dataset": "nuscenes", "data_list": []}', "no keyframe in data_list"),
    ],
)
def test_what_is_no_info_is_named(folder, content, text):
    (folder / "info.json").write_text(content)
    with pytest.raises(RecordingError, match=text):
        open_recording(folder)


def test_keyframes_have_no_splits(folder):
    with pytest.raises(RecordingError, match="keyframes have no splits"):
        open_recording(folder, split="scene-0061")


def test_salvage_leaves_a_missing_picture_out(folder):
    (folder / "f.jpg").unlink()
    reader = open_recording(folder, salvage=True)
    assert [r.sensor for _, r in reader.readings()] == ["lidar-top"]
    assert "f.jpg: no such file" in reader.info().damage
