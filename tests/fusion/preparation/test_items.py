"""Rays, ground points and each item's own LiDAR points."""

import numpy as np
import pytest

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, invert, rigid, rotation_y
from fusion.preparation import Placement
from fusion.preparation.items import ITEM_POINTS, ItemArrays, item_arrays, surface_residuals
from fusion.preparation.rays import RAY_DEPTHS, cell_rays, ground_points, input_calibration, ray_points
from fusion.types import Box2D, Float32Array


@pytest.fixture
def camera() -> CameraCalibration:
    mount = rigid(rotation_y(0.1), np.array([0.2, 0.0, 1.3]))
    return CameraCalibration.pinhole(640, 384, 1.4, mount @ invert(CAMERA_OPTICAL_FROM_BODY))


def _wall(x: float, y: tuple[float, float], z: tuple[float, float], count: int) -> Float32Array:
    rng = np.random.default_rng(1)
    return np.stack([np.full(count, x), rng.uniform(*y, count), rng.uniform(*z, count), np.full(count, 0.5)], 1).astype(
        np.float32
    )


def _box_of(camera: CameraCalibration, points: Float32Array) -> Box2D:
    pixels, inside = camera.project(points[:, :3].astype(np.float64))
    assert inside.all()
    return Box2D(*(float(v) for v in (*(pixels.min(0) - 0.5), *(pixels.max(0) + 0.5))))


def test_ray_points_project_back_to_their_pixel(camera: CameraCalibration) -> None:
    pixels = np.array([[100.0, 300.0], [320.0, 192.0]])
    for pixel, ray in zip(pixels, ray_points(camera, pixels), strict=True):
        points = ray.reshape(-1, 3).astype(np.float64)
        back, inside = camera.project(points)
        assert inside.all()
        np.testing.assert_allclose(back, np.tile(pixel, (16, 1)), atol=0.01)
        eye = camera.ego_from_camera[:3, 3]
        np.testing.assert_allclose(np.linalg.norm(points - eye, axis=1), RAY_DEPTHS, rtol=1e-5)


def test_cells_are_row_by_row(camera: CameraCalibration) -> None:
    rays = cell_rays(camera)
    assert rays.shape == (1, 24 * 40, 48)
    np.testing.assert_allclose(rays[0, 41], ray_points(camera, np.array([[24.0, 24.0]]))[0])


def test_a_smaller_input_sees_the_same_rays(camera: CameraCalibration) -> None:
    small = input_calibration(camera, Placement(0.5, 0.0, 16.0), 320, 224)
    np.testing.assert_allclose(
        ray_points(small, np.array([[50.0, 116.0]])), ray_points(camera, np.array([[100.0, 200.0]])), rtol=1e-5
    )


def test_the_foot_of_a_box_meets_the_ground(camera: CameraCalibration) -> None:
    pixels, _ = camera.project(np.array([[6.0, -1.0, 0.0]]))
    np.testing.assert_allclose(ground_points(camera, pixels), [[6.0, -1.0, 0.0]], atol=1e-6)
    above = ground_points(camera, np.array([[320.0, 0.0]]))
    assert np.hypot(*above[0, :2]) == pytest.approx(30.0, rel=0.1)


def test_an_item_gets_its_own_points_and_their_median(camera: CameraCalibration) -> None:
    drum, behind = _wall(6.0, (0.7, 1.3), (0.1, 0.9), 60), _wall(12.0, (-4.0, 6.0), (0.1, 2.5), 800)
    ground = _wall(6.0, (-3.0, 3.0), (0.0, 0.02), 200)
    box = _box_of(camera, drum)
    sweep = np.concatenate([ground, behind, drum])
    items = item_arrays([box], np.zeros((1, 6), np.float32), camera, sweep)
    assert items.box_valid.tolist() == [True, *[False] * 31]
    assert items.item_points_valid[0].sum() == 60
    np.testing.assert_allclose(items.item_place[0], np.median(drum[:, :3], axis=0), atol=1e-5)
    own = items.item_points[0, :60]
    assert np.abs(own[:, 4:6]).max() <= 1.0
    sight = items.item_place[0, :2] - camera.ego_from_camera[:2, 3]
    sight /= np.linalg.norm(sight)
    expected = (drum[:, :2] - items.item_place[0, :2]) @ sight
    np.testing.assert_allclose(np.sort(own[:, 0]), np.sort(expected), atol=1e-5)


def test_many_points_are_thinned_and_broken_ones_left_out(camera: CameraCalibration) -> None:
    drum = _wall(6.0, (0.7, 1.3), (0.1, 0.9), 500)
    box = _box_of(camera, drum)
    drum[::2, 0] = np.nan
    items = item_arrays([box], np.zeros((1, 6), np.float32), camera, drum)
    assert items.item_points_valid[0].sum() == ITEM_POINTS
    assert np.isfinite(items.item_points).all()


def test_without_a_sweep_the_place_is_on_the_ground(camera: CameraCalibration) -> None:
    foot, _ = camera.project(np.array([[5.0, 1.0, 0.0]]))
    box = Box2D(foot[0, 0] - 20, foot[0, 1] - 60, foot[0, 0] + 20, float(foot[0, 1]))
    for sweep in (None, np.zeros((0, 4), np.float32)):
        items = item_arrays([box], np.zeros((1, 6), np.float32), camera, sweep)
        np.testing.assert_allclose(items.item_place[0], [5.0, 1.0, 0.0], atol=1e-4)
        assert not items.item_points_valid.any()


def test_no_more_rows_than_the_fuser_has(camera: CameraCalibration) -> None:
    boxes = [Box2D(10, 200, 40, 240)] * 40
    items = item_arrays(boxes, np.zeros((40, 6), np.float32), camera, None)
    assert items.box_valid.shape == (32,)
    assert items.box_valid.all()
    assert {name: value.shape[0] for name, value in ItemArrays.empty(6).batched().items()}["boxes"] == 1


def test_a_dent_stands_out_of_the_surface() -> None:
    rng = np.random.default_rng(1)
    left, up = rng.uniform(-0.25, 0.25, 90), rng.uniform(-0.45, 0.45, 90)
    round_side = 0.3 - np.sqrt(0.3**2 - left**2)
    dented = np.hypot(left, up) < 0.12
    behind = np.arange(90) < 5
    forward = round_side + 0.1 * dented + 0.9 * behind
    points = np.stack([forward, left], 1)[None].astype(np.float32)
    residual = surface_residuals(points, np.ones((1, 90), np.bool_))[0]
    assert residual[dented & ~behind].min() > 0.05
    assert np.abs(residual[~dented & ~behind]).max() < 0.05
    assert residual[behind].max() == pytest.approx(0.5)


def test_too_few_points_make_no_surface() -> None:
    points = np.array([[[0.0, 0.0], [0.1, 0.1], [0.3, 0.3], [9.0, 9.0]]], np.float32)
    valid = np.array([[True, True, True, False]])
    np.testing.assert_allclose(surface_residuals(points, valid), [[0.0, 0.1, 0.3, 0.0]], atol=1e-6)
