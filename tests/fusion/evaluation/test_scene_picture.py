"""Pictures of what was found: boxes are where they project, and nothing at all can be shown, too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.evaluation.box_drawing import THIN, Ground, Pen, ShownBox, corners, draw_in_picture, draw_on_ground
from fusion.evaluation.caption import Caption, SensorNote
from fusion.evaluation.ground_view import PictureView
from fusion.evaluation.scene_picture import WIDTH, Shot, class_colours, frame_shots, frame_truth, scene_picture
from fusion.evaluation.text_drawing import draw_labels
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid, rotation_z
from fusion.preparation.boxes import box3d_vector
from fusion.preparation.surround import InputSize, camera_view
from fusion.types import Box3D

CAR = Box3D(15.0, 0.0, 0.9, 4.0, 1.8, 1.6, 0.0)
RED = (255, 0, 0)
LINE = Pen(RED, THIN)
BESIDE = 764
"""Columns of a single picture that has the ground beside it."""
HEIGHT = 192 * BESIDE // 320
NO_POINTS = np.zeros((0, 5), np.float32)


def camera(yaw: float = 0.0) -> CameraCalibration:
    mount = rigid(rotation_z(yaw), np.array([1.0, 0.0, 1.5]))
    return CameraCalibration.pinhole(320, 192, 1.2, mount @ invert(CAMERA_OPTICAL_FROM_BODY))


def shot(name: str = "front", yaw: float = 0.0, grey: int = 90) -> Shot:
    view = camera_view(camera(yaw), InputSize(320, 192))
    return Shot(name, np.full((192, 320, 3), grey, np.uint8), view.image_from_ego.astype(np.float32))


def red(picture: np.ndarray) -> np.ndarray:
    """Where a picture is as good as red: (n, 2) as column, row."""
    rows, columns = np.nonzero((picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] < 60))
    return np.column_stack([columns, rows])


@given(st.floats(6, 40), st.floats(-0.3, 0.3), st.floats(-3.1, 3.1))
@settings(max_examples=30, deadline=None)
def test_a_box_is_drawn_where_it_projects(ahead: float, side: float, yaw: float) -> None:
    box = Box3D(ahead, ahead * side, 0.9, 4.0, 1.8, 1.6, yaw)
    picture = np.zeros((192, 320, 3), np.uint8)
    corner = draw_in_picture(picture, shot().image_from_ego, box, LINE)
    places, inside = camera().project(corners(box))
    if not inside.all():
        return
    drawn = red(picture)
    np.testing.assert_allclose(drawn.min(axis=0), places.min(axis=0), atol=2)
    np.testing.assert_allclose(drawn.max(axis=0), places.max(axis=0), atol=2)
    assert corner is not None
    np.testing.assert_allclose(corner, places.min(axis=0), atol=1.01)


def test_what_is_behind_the_camera_is_not_drawn_and_what_is_half_behind_is_cut() -> None:
    picture = np.zeros((192, 320, 3), np.uint8)
    behind = Box3D(-15.0, 0.0, 0.9, 4.0, 1.8, 1.6, 0.0)
    assert draw_in_picture(picture, shot().image_from_ego, behind, Pen(RED)) is None
    assert not picture.any()
    beside = Box3D(1.0, 1.5, 1.0, 8.0, 1.0, 1.5, 0.0)
    assert draw_in_picture(picture, shot().image_from_ego, beside, Pen(RED)) is not None
    assert red(picture)[:, 0].max() < 160  # it stands to the left


def test_from_above_x_is_up_and_y_left_and_the_nose_is_in_front() -> None:
    ground = Ground(20.0, 10.0, 15.0, 10.0)
    assert ground.size == (300, 300)
    panel = np.zeros((300, 300, 3), np.uint8)
    draw_on_ground(panel, ground, ShownBox(Box3D(10, 5, 1, 4, 2, 1.5, 0.0), "car"), LINE)
    drawn = red(panel)
    np.testing.assert_allclose(drawn.min(axis=0), [90, 74], atol=2)  # the nose reaches 0.6 m beyond the front
    np.testing.assert_allclose(drawn.max(axis=0), [110, 120], atol=2)
    moving = np.zeros((300, 300, 3), np.uint8)
    draw_on_ground(moving, ground, ShownBox(Box3D(10, 5, 1, 4, 2, 1.5, 0.0), "car", velocity=(0.0, -8.0)), LINE)
    np.testing.assert_allclose(red(moving)[:, 0].max(), 180, atol=2)  # a second later it is 8 m to the right


def test_found_boxes_have_their_class_colour_and_name_and_truth_is_grey() -> None:
    bare, truth, found = (
        scene_picture([shot()], NO_POINTS, *boxes, ["car"])[:HEIGHT, :BESIDE].astype(int)
        for boxes in (([], []), ([ShownBox(CAR, "car")], []), ([], [ShownBox(CAR, "car", 0.87)]))
    )
    changed = [(one != bare).any(axis=2) for one in (truth, found)]
    assert changed[1].sum() > 2 * changed[0].sum() > 0  # whole and thick against dashed and thin
    assert np.ptp(truth[changed[0]], axis=1).max() == 0
    assert (found == class_colours(["car"])["car"]).all(axis=2).any()


def test_what_was_asked_for_lies_on_white() -> None:
    plain, asked = (
        scene_picture([shot(grey=0)], NO_POINTS, [], [ShownBox(CAR, "car", 0.8, asked=wanted)], ["car"])
        for wanted in (False, True)
    )
    for part in (np.s_[:HEIGHT, :BESIDE], np.s_[:HEIGHT, BESIDE:]):  # the picture and the ground
        white = [(one[part] > 220).all(axis=2).sum() for one in (plain, asked)]
        assert white[1] > white[0] + 50


def test_labels_do_not_cover_each_other() -> None:
    labels = [((40, 60), "car 0.90", RED), ((60, 62), "truck 0.80", (0, 255, 0)), ((40, 150), "bus 0.70", (0, 0, 255))]
    picture = np.zeros((192, 320, 3), np.uint8)
    draw_labels(picture, labels)
    assert [bool((picture[..., channel] > 200).any()) for channel in range(3)] == [True, False, True]


def test_the_caption_stands_above_and_tells_sensors_apart() -> None:
    bare = scene_picture([shot()], NO_POINTS, [], [], ["car"])
    notes = [SensorNote(f"camera-{number} 35 ms", number != 3) for number in range(14)]
    told = scene_picture(
        [shot()], NO_POINTS, [], [], ["car"], caption=Caption("a drive at 3 s", notes, ["heard \u2013 nothing"])
    )
    strip = told[: len(told) - len(bare)].astype(int)
    assert (told[len(strip) :] == bare).all()
    red = (strip[..., 0] > 200) & (strip[..., 1] < 120)
    green = (strip[..., 1] > 180) & (strip[..., 0] < 120)
    assert 10 < red.sum() < green.sum() / 5
    assert len(strip) > 90  # the sensors take more than one row


def test_an_absent_camera_is_black_with_points_and_boxes() -> None:
    points = np.array([[15.0, 0.0, 0.0, 0.5, 0.0]], np.float32)
    gone = Shot("front", shot().pixels, shot().image_from_ego, absent=True)
    bare = scene_picture([gone], NO_POINTS, [], [], ["car"])[: HEIGHT - 30, :BESIDE]
    assert (bare[60:] == 0).all()
    shown = scene_picture([gone], points, [], [ShownBox(CAR, "car", 0.9)], ["car"])[: HEIGHT - 30, :BESIDE]
    assert (shown[60:] != 0).any(axis=2).sum() > 200


def test_an_empty_frame_is_a_picture() -> None:
    picture = scene_picture([], NO_POINTS, [], [], [])
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (WIDTH, 3)
    near = scene_picture([], NO_POINTS, [], [], ["car"], PictureView(10, 0, 10))
    assert near.shape[0] < picture.shape[0]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_cameras_stand_as_they_look(count: int) -> None:
    yaws = [0.0, 0.9, -0.9, 1.9, 3.1, -1.9][:count]
    shots = [shot(str(number), yaw, 40 + 30 * number) for number, yaw in enumerate(yaws)]
    picture = scene_picture(shots, NO_POINTS, [], [], [])
    columns = min(3, count)
    width = BESIDE if count == 1 else WIDTH // columns
    height = round(192 * width / 320)
    seen = [int(picture[height // 3, width * c + width // 2, 0]) for c in range(columns)]
    expected = {1: [40], 2: [70, 40], 3: [70, 40, 100], 5: [70, 40, 100], 6: [70, 40, 100]}[count]
    assert seen == expected
    if count == 6:
        assert [int(picture[height * 4 // 3, width * c + width // 2, 0]) for c in range(3)] == [130, 160, 190]


def test_points_are_seen_from_above_and_in_pictures_when_asked() -> None:
    rows = np.array([[20.0, 5.0, 3.5, 0.5, 0.0], [15.0, 0.0, 0.0, 0.5, 0.0], [-70.0, 0.0, 0.0, 0.5, 0.0]], np.float32)
    view, dotted = PictureView(50, 50, 50), PictureView(50, 50, 50, dotted=True)
    bare = scene_picture([shot()], NO_POINTS, [], [], [], view)
    plain, marked = (scene_picture([shot()], rows, [], [], [], one) for one in (view, dotted))
    pictures = np.s_[:HEIGHT, :BESIDE]
    assert not (plain[pictures] != bare[pictures]).any()
    assert (plain != bare)[:HEIGHT].any(axis=2).sum() == 2  # two points are in sight
    place = camera().project(rows[1:2, :3].astype(float))[0][0] * BESIDE / 320
    changed = np.argwhere((marked[pictures] != bare[pictures]).any(axis=2))[:, ::-1]
    assert np.hypot(*(changed - place).T).min() < 2


def test_a_training_frame_is_shown() -> None:
    boxes = np.zeros((3, 8), np.float32)
    boxes[0] = box3d_vector(CAR)
    one = shot()
    frame = {
        "images": np.stack([one.pixels.transpose(2, 0, 1)] * 2),
        "image_from_ego": np.stack([one.image_from_ego] * 2),
        "camera_available": np.array([True, False]),
        "camera_age": np.array([0.02, 0], np.float32),
        "points": np.ones((4, 5), np.float32),
        "points_valid": np.array([True, False, False, False]),
        "truth_label": np.array([1, -1, -1]),
        "truth_box3d": boxes,
        "truth_velocity": np.zeros((3, 2), np.float32),
        "truth_has_velocity": np.array([False, False, False]),
    }
    shots = frame_shots(frame, ["front", "rear"])
    assert [(one.name, round(one.age_s, 3), one.absent) for one in shots] == [("front", 0.02, False)]
    assert (shots[0].pixels == one.pixels).all()
    told = frame_truth(frame, ["van", "car"])
    assert [(shown.label, shown.velocity) for shown in told] == [("car", None)]
    np.testing.assert_allclose(corners(told[0].box), corners(CAR), atol=1e-4)
    both = frame_shots(frame, ["front", "rear"], {"rear": one.image_from_ego})
    assert [(shot.name, shot.absent) for shot in both] == [("front", False), ("rear", True)]
