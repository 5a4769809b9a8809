"""Changed frames: what is seen where, and what belongs together, stays true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid, rotation_z
from fusion.preparation.boxes import box3d_of, box3d_vector
from fusion.preparation.surround import InputSize, surround
from fusion.training.driving.augment import (
    AugmentRecipe,
    drop_points,
    drop_sensors,
    jitter_calibration,
    jitter_light,
    training_recipe,
    transform_scene,
)
from fusion.training.driving.frames import Frame
from fusion.types import Box3D

SIZE = InputSize(96, 64)
BOXES = [
    Box3D(14, 3, 0.8, 4, 1.8, 1.6, 0.5),
    Box3D(-9, -4, 1.0, 0.7, 0.6, 1.7, -2.0),
    Box3D(22, -6, 1.5, 9, 2.5, 3, 3.0),
]


def made(seed: int = 0) -> Frame:
    """Two cameras, points in and around three boxes, and a padded row in each table."""
    rng = np.random.default_rng(seed)
    cameras, names = {}, ["ahead", "behind"]
    for name, yaw in (("ahead", 0.1), ("behind", 3.0)):
        mount = rigid(rotation_z(yaw), np.array([0.8 * np.cos(yaw), 0.1, 1.5]))
        cameras[name] = CameraCalibration.pinhole(120, 80, 1.4, mount @ invert(CAMERA_OPTICAL_FROM_BODY))
    pictures = {n: (rng.integers(60, 200, (80, 120, 3), dtype=np.uint8), 0.01) for n in names}
    seen = surround(names, cameras, pictures, SIZE)
    inside = [
        rng.uniform(-0.6, 0.6, (60, 3)) * [b.length, b.width, b.height] @ rotation_z(b.yaw).T + [b.x, b.y, b.z]
        for b in BOXES
    ]
    points = np.zeros((200, 5), np.float32)
    points[:180, :3] = np.concatenate(inside)
    points[:180, 3:] = [0.5, -0.05]
    boxes = np.zeros((4, 8), np.float32)
    boxes[:3] = [box3d_vector(box) for box in BOXES]
    velocity = np.zeros((4, 2), np.float32)
    velocity[:2] = [[3, 1], [-1, 0.5]]
    return {
        "images": seen.images,
        "rays": seen.rays,
        "image_from_ego": seen.image_from_ego,
        "camera_available": seen.available,
        "camera_age": seen.age,
        "points": points,
        "points_valid": np.arange(200) < 180,
        "lidar_available": np.array(True),
        "lidar_age": np.array(0.0, np.float32),
        "truth_label": np.array([0, 1, 0, -1]),
        "truth_box3d": boxes,
        "truth_velocity": velocity,
        "truth_has_velocity": np.array([True, True, False, False]),
        "truth_count": np.array(3),
        "has_truth": np.array(True),
    }


def pixels(frame: Frame, points: np.ndarray) -> np.ndarray:
    """(u·d, v·d, d) of `points` (n, 3) in each camera, (V, n, 3)."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    return np.einsum("vij,nj->vni", frame["image_from_ego"].astype(float), homogeneous)


def held(frame: Frame) -> np.ndarray:
    """Which points each of the three boxes holds, (3, P)."""
    found = []
    for vector in frame["truth_box3d"][:3]:
        box = box3d_of(vector)
        local = (frame["points"][:, :3].astype(float) - [box.x, box.y, box.z]) @ rotation_z(box.yaw)
        half = np.array([box.length, box.width, box.height]) / 2
        found.append((np.abs(local) <= half).all(axis=1) & frame["points_valid"])
    return np.array(found)


@given(st.floats(-3.2, 3.2), st.floats(0.8, 1.25), st.booleans(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_turned_scene_is_seen_at_the_same_pixels_and_boxes_hold_the_same_points(
    turn: float, scale: float, flip: bool, seed: int
) -> None:
    frame = made(seed)
    changed = transform_scene(frame, turn_rad=turn, scale=scale, flip=flip)
    for part in (lambda f: f["truth_box3d"][:3, :3], lambda f: f["points"][:180, :3]):
        np.testing.assert_allclose(pixels(changed, part(changed)), pixels(frame, part(frame)), atol=2e-4)
    changed_held, was_held = held(changed), held(frame)
    assert (changed_held != was_held).sum() <= 1  # a point on a side may fall either way in float32
    assert was_held.sum() > 30
    for key in ("images", "camera_available", "points_valid", "truth_label"):
        np.testing.assert_array_equal(changed[key], frame[key])


@given(st.floats(-3.2, 3.2), st.floats(0.8, 1.25), st.booleans())
@settings(max_examples=30, deadline=None)
def test_rays_turn_with_the_scene(turn: float, scale: float, flip: bool) -> None:
    frame = made()
    changed = transform_scene(frame, turn_rad=turn, scale=scale, flip=flip)
    for camera in range(2):
        points = [f["rays"][camera].reshape(-1, 3) for f in (frame, changed)]
        before, after = (pixels(f, p)[camera] for f, p in zip((frame, changed), points, strict=True))
        np.testing.assert_allclose(after, before, atol=1e-3)


def test_a_mirrored_world_goes_the_other_way() -> None:
    frame = made()
    changed = transform_scene(frame, flip=True)
    box = box3d_of(changed["truth_box3d"][0])
    assert (box.x, box.y, box.yaw) == pytest.approx((14, -3, -0.5), abs=1e-5)
    np.testing.assert_allclose(changed["truth_velocity"][:2], [[3, -1], [-1, -0.5]])
    np.testing.assert_allclose(transform_scene(changed, flip=True)["points"], frame["points"])
    larger = transform_scene(frame, scale=1.1, turn_rad=np.pi / 2)
    np.testing.assert_allclose(larger["truth_velocity"][0], [-1.1, 3.3], atol=1e-5)
    assert box3d_of(larger["truth_box3d"][0]).length == pytest.approx(4.4, rel=1e-5)
    assert not larger["truth_box3d"][3].any()
    with pytest.raises(InputError, match="positive"):
        transform_scene(frame, scale=0)


def test_kinds_of_sensor_go_as_often_as_said() -> None:
    frame, recipe = made(), training_recipe()
    rng, seen = np.random.default_rng(5), []
    for _ in range(2000):
        changed = drop_sensors(frame, rng, recipe)
        seen.append((bool(changed["lidar_available"]), int(changed["camera_available"].sum())))
        gone = ~changed["camera_available"]
        for key in ("images", "rays", "image_from_ego", "camera_age"):
            assert not changed[key][gone].any()
        if not changed["lidar_available"]:
            assert not changed["points"].any()
            assert not changed["points_valid"].any()
    alone = np.mean([lidar and not cameras for lidar, cameras in seen])
    blind = np.mean([not lidar for lidar, cameras in seen])
    assert (False, 0) not in seen
    assert alone == pytest.approx(0.25 + 0.5 * 0.1**2, abs=0.03)
    assert blind == pytest.approx(0.25, abs=0.03)
    assert frame["camera_available"].all()


@given(st.integers(0, 10_000), st.booleans(), st.lists(st.booleans(), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_the_last_sensor_stays(seed: int, lidar: bool, cameras: list[bool]) -> None:
    frame = made()
    frame["lidar_available"], frame["camera_available"] = np.array(lidar), np.array(cameras)
    recipe = AugmentRecipe(lidar_only=0.4, camera_only=0.4, camera_drop=0.8)
    changed = drop_sensors(frame, np.random.default_rng(seed), recipe)
    assert (lidar or any(cameras)) == bool(changed["lidar_available"] or changed["camera_available"].any())


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_calibration_is_off_only_in_what_is_told_and_by_little(seed: int) -> None:
    frame = made()
    recipe = AugmentRecipe(jitter_rad=np.radians(0.5), jitter_m=0.03)
    changed = jitter_calibration(frame, np.random.default_rng(seed), recipe)
    assert [key for key in frame if not np.array_equal(frame[key], changed[key])] == ["rays", "image_from_ego"]
    for camera in range(2):  # rays and projection are off together
        points = [f["rays"][camera].reshape(-1, 3) for f in (frame, changed)]
        before, after = (pixels(f, p)[camera] for f, p in zip((frame, changed), points, strict=True))
        np.testing.assert_allclose(after, before, atol=2e-3)
        assert 0 < np.abs(points[1][:16] - points[0][:16]).max() < 40 * np.radians(4) + 0.2


def test_whole_beams_go() -> None:
    frame = made()
    elevation = np.repeat(np.arange(-10, 10), 10)  # twenty beams a degree apart, ten points each
    angle, around = np.radians(elevation + 0.25), np.tile(np.linspace(-1, 1, 10), 20)
    directions = [np.cos(angle) * np.cos(around), np.cos(angle) * np.sin(around), np.sin(angle)]
    frame["points"][:, :3] = 20 * np.stack(directions, 1) + [0.9, 0, 1.8]
    frame["points_valid"][:] = True
    place = np.array([0.9, 0.0, 1.8])
    changed = drop_points(frame, np.random.default_rng(2), AugmentRecipe(beam_drop=0.4), place)
    by_beam = changed["points_valid"].reshape(20, 10)
    assert {int(n) for n in by_beam.sum(1)} == {0, 10}
    assert not changed["points"][~changed["points_valid"]].any()
    single = drop_points(frame, np.random.default_rng(2), AugmentRecipe(point_drop=0.5), place)
    assert 60 < single["points_valid"].sum() < 140


def test_light_changes_in_pictures_that_are_there() -> None:
    frame = made()
    frame["camera_available"][1] = False
    before = frame["images"].copy()
    recipe = AugmentRecipe(gain=0.3, contrast=0.2, tint=0.05)
    changed = jitter_light(frame, np.random.default_rng(4), recipe)
    np.testing.assert_array_equal(frame["images"], before)
    np.testing.assert_array_equal(changed["images"][1], before[1])
    ratio = changed["images"][0].mean() / before[0].mean()
    assert 0.6 < ratio < 1.4
    assert ratio != pytest.approx(1, abs=0.01)


def test_a_recipe_of_nothing_changes_nothing() -> None:
    frame, still, rng = made(), AugmentRecipe(), np.random.default_rng(0)
    for step in (drop_sensors, jitter_calibration, drop_points, jitter_light):
        changed = step(frame, rng, still)
        for key, value in frame.items():
            np.testing.assert_allclose(changed[key], value, atol=1e-4, err_msg=f"{step.__name__} {key}")
