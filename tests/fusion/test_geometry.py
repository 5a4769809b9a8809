"""Frames and calibration: projection, rays and resizing agree with each other and with OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, apply, invert, rigid, rotation_y, rotation_z

KITTI_LENS = (-0.3691481, 0.1968681, 0.001353473, 0.0005677587, -0.06770705)
RATIONAL_LENS = (0.5, -2.4, 0.0004, -0.0001, 1.4, 0.4, -2.2, 1.35)


def front_camera(distortion: tuple[float, ...] = ()) -> CameraCalibration:
    ego_from_body = rigid(rotation_y(0.1), np.array([0.5, 0.0, 1.3]))
    ego_from_camera = ego_from_body @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(640, 384, np.deg2rad(80), ego_from_camera)
    return CameraCalibration(640, 384, camera.k, np.array(distortion), ego_from_camera)


def test_forward_is_the_middle_of_the_picture_and_left_is_left() -> None:
    camera = CameraCalibration.pinhole(640, 384, np.deg2rad(90), invert(CAMERA_OPTICAL_FROM_BODY))
    pixels, inside = camera.project(np.array([[5.0, 0, 0], [5.0, 1, 0], [5.0, 0, 1], [-5.0, 0, 0]]))
    assert np.allclose(pixels[0], [320, 192])
    assert pixels[1, 0] < 320
    assert pixels[2, 1] < 192
    assert inside.tolist() == [True, True, True, False]


@given(st.floats(1, 639), st.floats(1, 383), st.floats(1, 40))
def test_a_ray_projects_back_to_its_pixel(u: float, v: float, depth: float) -> None:
    camera = front_camera()
    origin = camera.ego_from_camera[:3, 3]
    point = origin + camera.rays(np.array([[u, v]])) * depth
    pixels, inside = camera.project(point)
    assert np.allclose(pixels, [[u, v]], atol=1e-6)
    assert inside.all()


@pytest.mark.parametrize("distortion", [(-0.3, 0.1, 0.001, -0.002), (-0.3, 0.1, 0.001, -0.002, 0.05), RATIONAL_LENS])
def test_distortion_is_opencvs(distortion: tuple[float, ...]) -> None:
    camera = front_camera(distortion)
    points = np.random.default_rng(0).uniform([4, -3, 0], [20, 3, 3], (50, 3))
    optical = apply(invert(camera.ego_from_camera), points)
    expected = cv2.projectPoints(optical, np.zeros(3), np.zeros(3), camera.k, np.array(distortion))[0][:, 0]
    assert np.allclose(camera.project(points)[0], expected, atol=1e-6)


def wide_camera(distortion: tuple[float, ...]) -> CameraCalibration:
    k = np.array([[960.0, 0, 696], [0, 960, 256], [0, 0, 1]])
    return CameraCalibration(1392, 512, k, np.array(distortion), invert(CAMERA_OPTICAL_FROM_BODY))


@pytest.mark.parametrize("distortion", [KITTI_LENS, (-0.3, 0, 0, 0), (0.1, -0.3, 0, 0), RATIONAL_LENS])
def test_what_the_lens_cannot_see_does_not_fold_back_into_the_picture(distortion: tuple[float, ...]) -> None:
    camera = wide_camera(distortion)
    angles = np.deg2rad(np.arange(-85, 86, 0.25))
    pixels, inside = camera.project(np.c_[np.cos(angles), -np.sin(angles), np.zeros(len(angles))] * 10)
    assert inside.sum() > 100
    assert (np.diff(np.flatnonzero(inside)) == 1).all(), "one stretch about the middle"
    assert (np.diff(pixels[inside, 0]) > 0).all()


@pytest.mark.parametrize("distortion", [KITTI_LENS, (-0.3, 0, 0, 0), (0.2, 0.1, 0.002, -0.001), RATIONAL_LENS])
def test_a_ray_through_a_lens_projects_back_to_its_pixel(distortion: tuple[float, ...]) -> None:
    camera = wide_camera(distortion)
    angles, rise = (axis.ravel() for axis in np.meshgrid(np.deg2rad(np.arange(-80, 81, 4)), np.linspace(-0.3, 0.3, 7)))
    points = np.c_[np.cos(angles), -np.sin(angles), rise] * 10
    pixels, inside = camera.project(points)
    expected = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert inside.sum() > 40
    np.testing.assert_allclose(camera.rays(pixels[inside]), expected[inside], atol=1e-7)
    smaller = camera.resized(0.5, 0.5, 10, 4, (716, 264))
    np.testing.assert_allclose(smaller.rays(smaller.project(points)[0][inside]), expected[inside], atol=1e-7)


def test_a_pixel_the_lens_reaches_nowhere_has_the_farthest_ray() -> None:
    camera = wide_camera((-0.3, 0, 0, 0))
    near, far = camera.rays(np.array([[1390.0, 256], [9000.0, 256]])), camera.rays(np.array([[1e6, 256.0]]))
    assert near[1].tolist() == pytest.approx(far[0].tolist())
    assert np.isfinite(near).all()


def test_resizing_moves_pixels_as_said() -> None:
    camera = front_camera()
    smaller = camera.resized(0.5, 0.5, 10, 4, (340, 200))
    points = np.array([[8.0, 1.0, 0.5]])
    assert np.allclose(smaller.project(points)[0], camera.project(points)[0] * 0.5 + [10, 4])


def test_a_transform_and_its_inverse_cancel() -> None:
    transform = rigid(rotation_z(0.7) @ rotation_y(-0.2), np.array([1.0, 2, 3]))
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert np.allclose(apply(invert(transform), apply(transform, points)), points)


def test_a_wrong_calibration_is_refused() -> None:
    with pytest.raises(InputError, match="distortion has 3"):
        front_camera((1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="shapes"):
        CameraCalibration(10, 10, np.eye(2), np.zeros(0), np.eye(4))
    with pytest.raises(InputError, match="not finite"):
        CameraCalibration(10, 10, np.full((3, 3), np.nan), np.zeros(0), np.eye(4))
    with pytest.raises(InputError, match="not finite"):
        front_camera((np.inf, 0.0, 0.0, 0.0))
