"""Transforms and CameraInfo become a rig; what cannot be placed or calibrated says why."""

import numpy as np
import pytest

from fusion.recording import open_recording

NONE = (0.0, 0.0, 0.0, 1.0)
HALF_TURN = (0.0, 0.0, 1.0, 0.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
PIXELS = np.zeros((16, 24, 3), np.uint8)
POINTS = np.ones(2, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])


def info(bags, ros, *stored):
    return open_recording(bags.write(ros, [(topic, message, bags.start) for topic, message in stored])).info()


def lidar(m, frame="lidar"):
    return "/points", m.cloud(POINTS, frame=frame)


def camera(m, frame="cam", topic="/cam/image_raw"):
    return topic, m.image(PIXELS, "rgb8", frame=frame)


@pytest.mark.parametrize("base", ["base_link", "ego", "chassis"])
def test_the_base_frame_is_base_link_then_ego_then_the_root(bags, ros, base):
    m = bags.messages(ros)
    edges = [("chassis", base, (1, 0, 0), NONE)] if base != "chassis" else []
    edges += [(base, "mount", (0, 0, 2), HALF_TURN), ("mount", "lidar", (0.5, 0, 0), NONE)]
    found = info(bags, ros, ("/tf_static", m.transforms(*edges)), lidar(m))
    placed = found.rig.ego_from_lidar["points"]
    assert np.allclose(placed, [[-1, 0, 0, -0.5], [0, -1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    assert found.notes["frames"] == f"ego is the bag's frame '{base}'"


def test_a_slash_before_a_frame_means_nothing(bags, ros):
    m = bags.messages(ros)
    edge = m.transforms(("/base_link", "/lidar", (0, 0, 2), NONE))
    assert info(bags, ros, ("/tf_static", edge), lidar(m, "/lidar")).rig.ego_from_lidar["points"][2, 3] == 2


def test_a_lidar_in_the_base_frame_itself_is_placed(bags, ros):
    m = bags.messages(ros)
    assert np.allclose(info(bags, ros, lidar(m, "base_link")).rig.ego_from_lidar["points"], np.eye(4))


def test_a_sensor_nothing_places_is_told(bags, ros):
    m = bags.messages(ros)
    found = info(bags, ros, lidar(m, "velodyne"))
    assert found.rig is None
    assert found.notes["calibration of points"] == "not used: no fixed transform places its frame 'velodyne'"
    edge = m.transforms(("base_link", "other", (0, 0, 0), NONE))
    found = open_recording(bags.write(ros, [("/tf_static", edge, 1), (*lidar(m, "velodyne"), 1)], "b")).info()
    assert found.notes["calibration of points"].endswith("places its frame 'velodyne' in 'base_link'")


def test_transforms_of_tf_that_never_move_are_taken_and_moving_ones_are_not(bags, ros):
    m = bags.messages(ros)
    name = "tf/msg/tfMessage" if m.ros == 1 else "tf2_msgs/msg/TFMessage"
    still = ("base_link", "lidar", (0, 0, 2), NONE)
    moves = [("/tf", m.transforms(("odom", "base_link", (i, 0, 0), NONE), still, name=name)) for i in range(3)]
    turns = [("/tf", m.transforms(("base_link", "head", (0, 0, i), NONE), name=name)) for i in range(2)]
    found = info(bags, ros, *moves, *turns, lidar(m), camera(m, "head"), ("/cam/camera_info", m.calibration()))
    assert found.rig.ego_from_lidar["points"][2, 3] == 2
    assert "/tf never moves lidar" in found.notes["frames"]
    assert not found.rig.cameras
    assert "no fixed transform places its frame 'head'" in found.notes["calibration of cam-image-raw"]


def own_trees(m):
    """What drivers publish of their own sensors alone, in one message."""
    return "/tf_static", m.transforms(("os", "lidar", (0, 0, 0.1), NONE), ("camera_link", "cam", (0, 0, 0), OPTICAL))


def test_sensors_in_trees_of_their_own_are_joined_by_tf(bags, ros):
    m = bags.messages(ros)
    name = "tf/msg/tfMessage" if m.ros == 1 else "tf2_msgs/msg/TFMessage"
    mounts = ("base_link", "os", (0, 0, 2), NONE), ("base_link", "camera_link", (1, 0, 1), NONE)
    mounted = ("/tf", m.transforms(*mounts, name=name))
    found = info(bags, ros, own_trees(m), mounted, lidar(m), camera(m), ("/cam/camera_info", m.calibration()))
    assert found.notes["frames"].startswith("ego is the bag's frame 'base_link'; /tf never moves camera_link, os,")
    assert np.allclose(found.rig.ego_from_lidar["points"][:3, 3], [0, 0, 2.1])
    assert np.allclose(found.rig.cameras["cam-image-raw"].ego_from_camera[:3, 3], [1, 0, 1])


def test_a_base_that_only_tf_knows_is_the_base_where_it_joins_the_sensors(bags, ros):
    m = bags.messages(ros)
    name = "tf/msg/tfMessage" if m.ros == 1 else "tf2_msgs/msg/TFMessage"
    own = "/tf_static", m.transforms(("os", "lidar", (0, 0, 0.1), NONE))
    mounted = ("/tf", m.transforms(("base_link", "os", (0, 0, 2), NONE), name=name))
    assert np.allclose(info(bags, ros, own, mounted, lidar(m)).rig.ego_from_lidar["points"][:3, 3], [0, 0, 2.1])
    wheels = ("/tf", m.transforms(("base_link", "wheel", (0, 0, 2), NONE), name=name))
    found = open_recording(bags.write(ros, [(*pair, bags.start) for pair in (own, wheels, lidar(m))], "b")).info()
    assert np.allclose(found.rig.ego_from_lidar["points"][:3, 3], [0, 0, 0.1])
    assert found.notes["frames"] == "ego is the bag's frame 'os'"


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0)])
def test_a_transform_that_is_none_is_told(bags, ros, turn):
    m = bags.messages(ros)
    found = info(bags, ros, ("/tf_static", m.transforms(("base_link", "lidar", (0, 0, 0), turn))), lidar(m))
    assert "message 1 not used" in found.notes["transforms of /tf_static"]
    assert found.rig is None


def test_transforms_in_a_circle_are_no_endless_loop(bags, ros):
    m = bags.messages(ros)
    circle = m.transforms(
        ("a", "lidar", (0, 0, 0), NONE), ("lidar", "a", (0, 0, 0), NONE), ("base_link", "b", (0, 0, 0), NONE)
    )
    assert "circle" in info(bags, ros, ("/tf_static", circle), lidar(m)).notes["calibration of points"]


def placed_camera(m):
    return "/tf_static", m.transforms(("base_link", "cam", (0, 0, 1), OPTICAL))


@pytest.mark.parametrize(
    ("model", "d", "terms"),
    [
        ("plumb_bob", (0.1, 0.2, 0, 0, 0.3), 5),
        ("plumb_bob", (0, 0, 0, 0, 0), 0),
        ("", (), 0),
        ("rational_polynomial", (0.1, 0, 0, 0, 0, 0, 0, 0.2), 8),
        ("equidistant", (), 0),
    ],
)
def test_camera_info_is_the_calibration(bags, ros, model, d, terms):
    m = bags.messages(ros)
    found = info(bags, ros, placed_camera(m), camera(m), ("/cam/camera_info", m.calibration(model=model, d=d)))
    calibration = found.rig.cameras["cam-image-raw"]
    assert (calibration.width, calibration.height, calibration.distortion.size) == (24, 16, terms)
    assert calibration.k.tolist() == [[20, 0, 12], [0, 20, 8], [0, 0, 1]]
    assert np.allclose(calibration.ego_from_camera[:3, 3], [0, 0, 1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "equidistant", "d": (0.1, 0, 0, 0)}, "lens model 'equidistant'"),
        ({"size": (48, 32)}, "its CameraInfo is for 48x32, its pictures are 24x16"),
        ({"k": np.zeros(9)}, "intrinsics"),
        ({"d": (0.1, 0, 0)}, "3 coefficients"),
    ],
)
def test_a_calibration_that_cannot_be_used_says_why(bags, ros, changes, text):
    m = bags.messages(ros)
    found = info(bags, ros, placed_camera(m), camera(m), ("/cam/camera_info", m.calibration(**changes)))
    assert found.rig is None
    assert text in found.notes["calibration of cam-image-raw"]


def test_the_calibration_is_the_one_beside_the_topic_else_of_the_frame(bags, ros):
    m = bags.messages(ros)
    k = [40.0, 0, 12, 0, 40, 8, 0, 0, 1]
    stored = [
        placed_camera(m),
        ("/other/camera_info", m.calibration(k=k)),
        ("/cam/camera_info", m.calibration("another")),
        ("/cam/image_raw/compressed", m.jpeg(PIXELS)),
        camera(m, topic="/elsewhere/image"),
    ]
    cameras = info(bags, ros, *stored).rig.cameras
    assert cameras["cam-image-raw-compressed"].k[0, 0] == 20
    assert cameras["elsewhere-image"].k[0, 0] == 40


def test_a_rectified_picture_is_seen_by_the_projection(bags, ros):
    m = bags.messages(ros)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    p = [30.0, 0, 11, 5, 0, 30, 7, 0, 0, 0, 1, 0]
    about = m.calibration(d=(0.3, 0, 0, 0, 0), p=p, r=turn.ravel())
    found = info(bags, ros, placed_camera(m), camera(m, topic="/cam/image_rect_color"), ("/cam/camera_info", about))
    calibration = found.rig.cameras["cam-image-rect-color"]
    assert (calibration.k[0, 0], calibration.k[0, 2], calibration.distortion.size) == (30, 11, 0)
    plain = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1.0]])
    assert np.allclose(calibration.ego_from_camera[:3, :3], plain[:3, :3] @ turn.T)


def test_a_camera_without_calibration_is_read_all_the_same(bags, ros):
    m = bags.messages(ros)
    found = info(bags, ros, placed_camera(m), camera(m))
    assert found.sensors["cam-image-raw"].count == 1
    assert found.notes["calibration of cam-image-raw"] == "not used: no CameraInfo beside its topic"
