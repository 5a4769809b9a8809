import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import rigid, rotation_z
from fusion.preparation import points_input
from fusion.types import PointCloud


def cloud(*rows):
    return PointCloud(np.array(rows, np.float32).reshape(-1, 4))


def test_points_go_to_the_ego_frame_and_keep_their_intensity():
    ego_from_lidar = rigid(rotation_z(np.pi / 2), np.array([1.0, 0.0, 2.0]))
    points, valid = points_input(cloud([3, 0, 0, 0.5], [0, 2, 1, 0.25]), ego_from_lidar, 4)
    assert points.shape == (1, 4, 4)
    assert points.dtype == np.float32
    assert valid.tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(points[0, :2], [[1, 3, 2, 0.5], [-1, 0, 3, 0.25]], atol=1e-6)
    assert not points[0, 2:].any()


def test_what_is_too_near_too_far_or_not_finite_is_dropped():
    nan, inf = float("nan"), float("inf")
    rows = [
        [0.3, 0.3, 0, 1],
        [39, 10, 0, 1],
        [nan, 1, 1, 1],
        [inf, 1, 1, 1],
        [1, 1, 1, nan],
        [1e30, 1e30, 0, 1],
        [0, 0.51, 0, 0.7],
        [39.9, 0, 0, 0.8],
    ]
    points, valid = points_input(cloud(*rows), np.eye(4), 8)
    assert valid.sum() == 2
    np.testing.assert_allclose(points[0, :2, 3], [0.7, 0.8])


def test_range_is_measured_from_the_sensor_not_the_ego_origin():
    ego_from_lidar = rigid(np.eye(3), np.array([30.0, 0.0, 0.0]))
    _, valid = points_input(cloud([20, 0, 0, 1], [0.1, 0, 0, 1]), ego_from_lidar, 2)
    assert valid.tolist() == [[True, False]]


@given(st.integers(0, 300), st.integers(1, 64))
def test_more_points_than_fit_are_thinned_evenly_and_always_alike(count, most):
    rows = np.zeros((count, 4), np.float32)
    rows[:, 0], rows[:, 3] = 5.0, np.arange(count)
    points, valid = points_input(PointCloud(rows), np.eye(4), most)
    kept = points[0, valid[0], 3]
    assert len(kept) == min(count, most)
    assert (np.diff(kept) >= 1).all()
    if count > most:
        assert np.diff(kept, append=count).max() <= -(-count // most)
    assert np.array_equal(points, points_input(PointCloud(rows), np.eye(4), most)[0])


def test_no_points_are_no_valid_points():
    points, valid = points_input(cloud(), np.eye(4))
    assert points.shape == (1, 16384, 4)
    assert not valid.any()


def test_another_shape_is_refused():
    with pytest.raises(InputError, match=r"\(5, 3\)"):
        points_input(PointCloud(np.zeros((5, 3), np.float32)), np.eye(4))
