"""The cameras of a rig as one input: what is seen, what is told, and that both agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, apply, invert, rigid, rotation_y, rotation_z
from fusion.preparation.surround import InputSize, camera_view, move_rays, surround

SIZE = InputSize(192, 96)
LENS = np.array([-0.12, 0.16, 0.0007, 0.0014])


def camera(
    yaw: float = 0.0, pitch: float = 0.1, distortion: np.ndarray | None = None, width: int = 400, height: int = 300
) -> CameraCalibration:
    placed = rigid(rotation_z(yaw) @ rotation_y(pitch), np.array([1.0, 0.3, 1.6])) @ invert(CAMERA_OPTICAL_FROM_BODY)
    k = np.array([[310.0, 0, width / 2 + 7], [0, 305, height / 2 - 5], [0, 0, 1]])
    return CameraCalibration(width, height, k, np.zeros(0) if distortion is None else distortion, placed)


def spot(calibration: CameraCalibration, point: np.ndarray, radius: int = 6) -> np.ndarray:
    """A black picture with a white spot where the camera sees the ego `point`."""
    pixels, inside = calibration.project(point[None])
    assert inside[0]
    v, u = np.mgrid[: calibration.height, : calibration.width] + 0.5
    near = np.hypot(u - pixels[0, 0], v - pixels[0, 1]) < radius
    return np.repeat(near[..., None] * np.uint8(255), 3, axis=2)


def seen_at(image: np.ndarray) -> np.ndarray:
    """Where the white spot of an input (3, H, W) is, as shares of width and height."""
    _, height, width = image.shape
    v, u = np.mgrid[:height, :width] + 0.5
    weight = np.where(image[0] > 180, 1.0, 0.0)
    return np.array([(u * weight).sum() / width, (v * weight).sum() / height]) / weight.sum()


@given(st.floats(-0.4, 0.4), st.floats(-0.2, 0.05), st.floats(4, 40), st.sampled_from([None, LENS]))
@settings(max_examples=40, deadline=None)
def test_what_is_told_is_where_it_is_seen(side: float, up: float, depth: float, lens: np.ndarray | None) -> None:
    one = camera(yaw=0.8, distortion=lens)
    point = apply(one.ego_from_camera, np.array([[side * depth, -up * depth, depth]]))[0]
    found = surround(["side"], {"side": one}, {"side": (spot(one, point), 0.0)}, SIZE)
    u, v, d = found.image_from_ego[0] @ np.array([*point, 1.0])
    assert d == pytest.approx(depth, rel=1e-4)
    if 0.06 < u / d < 0.94 and 0.1 < v / d < 0.9:
        np.testing.assert_allclose(seen_at(found.images[0]), [u / d, v / d], atol=0.012)


def test_rays_go_through_the_cells_they_are_of() -> None:
    found = surround(["a"], {"a": camera()}, {"a": (np.zeros((300, 400, 3), np.uint8), 0.02)}, SIZE)
    points = found.rays[0].reshape(SIZE.cells, 16, 3)
    homogeneous = np.concatenate([points, np.ones((SIZE.cells, 16, 1))], axis=2)
    u, v, d = np.moveaxis(homogeneous @ found.image_from_ego[0].T.astype(float), 2, 0)
    rows, columns = np.divmod(np.arange(SIZE.cells), SIZE.width // 16)
    np.testing.assert_allclose(u / d, ((columns + 0.5) * 16 / SIZE.width)[:, None].repeat(16, 1), atol=1e-4)
    np.testing.assert_allclose(v / d, ((rows + 0.5) * 16 / SIZE.height)[:, None].repeat(16, 1), atol=1e-4)


def test_the_lower_part_is_kept_and_a_flat_picture_gets_grey_above_it() -> None:
    tall = np.zeros((300, 400, 3), np.uint8)
    tall[-10:] = 200
    flat = np.full((100, 400, 3), 50, np.uint8)
    cameras = {"tall": camera(), "flat": camera(height=100)}
    found = surround(["tall", "flat"], cameras, {"tall": (tall, 0), "flat": (flat, 0)}, SIZE)
    assert (found.images[0, :, -3:] == 200).all()
    assert (found.images[0, :, :80] == 0).all()
    assert (found.images[1, :, :48] == 114).all()
    assert (found.images[1, :, 48:] == 50).all()
    upper = surround(["tall"], cameras, {"tall": (tall, 0)}, InputSize(192, 96, lower=0.0))
    assert not upper.images.any()


def test_a_camera_that_is_not_there_is_zeros_and_false() -> None:
    picture = np.full((300, 400, 3), 9, np.uint8)
    names = ["there", "dark", "nowhere"]
    found = surround(
        names, {"there": camera(), "dark": camera()}, {"there": (picture, 0.04), "nowhere": (picture, 0.1)}, SIZE
    )
    assert found.available.tolist() == [True, False, False]
    np.testing.assert_allclose(found.age, [0.04, 0, 0], atol=1e-6)
    assert not any(part[1:].any() for part in (found.images, found.rays, found.image_from_ego))
    assert (found.images.dtype, found.rays.dtype, found.image_from_ego.dtype) == (np.uint8, np.float32, np.float32)
    assert found.rays.shape == (3, 72, 48)


def test_a_vehicle_that_moved_since_the_picture_sees_the_same() -> None:
    one, point = camera(), np.array([12.0, 1.0, 0.5])
    moved = rigid(rotation_z(0.05), np.array([-1.5, 0.2, 0.0]))
    picture = {"a": (np.zeros((300, 400, 3), np.uint8), 0.1)}
    still = surround(["a"], {"a": one}, picture, SIZE)
    driven = surround(["a"], {"a": one}, picture, SIZE, {"a": moved})
    before = still.image_from_ego[0] @ np.array([*point, 1.0])
    after = driven.image_from_ego[0] @ np.array([*apply(moved, point[None])[0], 1.0])
    np.testing.assert_allclose(after, before, rtol=1e-4)
    np.testing.assert_allclose(driven.rays[0], move_rays(moved, still.rays[0]))


def test_the_work_on_a_calibration_is_done_once() -> None:
    one = camera()
    assert camera_view(one, SIZE) is camera_view(one, InputSize(192, 96))
    assert camera_view(one, SIZE) is not camera_view(camera(), SIZE)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        InputSize(100, 96)
    with pytest.raises(InputError, match=r"0\.\.1"):
        InputSize(96, 96, lower=2)
    with pytest.raises(InputError, match=r"\(300, 400, 3\)"):
        surround(["a"], {"a": camera()}, {"a": (np.zeros((30, 40, 3), np.uint8), 0)}, SIZE)
