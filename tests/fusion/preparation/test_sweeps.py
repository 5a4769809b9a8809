"""Sweeps merged into one: what stands still lines up, what is unsound or the vehicle's own is gone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.geometry import apply, invert, rigid, rotation_z
from fusion.preparation.ego_motion import EgoMotion, axis_rotation, rotation_vector
from fusion.preparation.sweeps import OwnBody, merge_sweeps
from fusion.types import Image, Modality, PointCloud, Reading

STEP_NS = 50_000_000
PLACED = rigid(rotation_z(-0.3), np.array([0.9, 0.1, 1.8]))
finite = st.floats(-3, 3, allow_nan=False)


def sweep(time_ns: int, points: np.ndarray, offsets: np.ndarray | None = None) -> Reading:
    return Reading("roof", Modality.LIDAR, time_ns, PointCloud(points.astype(np.float32), offsets))


def drive(speed: float, turn: float, count: int) -> list[tuple[int, np.ndarray]]:
    """A vehicle that goes round a circle, or straight on."""
    step = rigid(rotation_z(turn), np.array([speed * STEP_NS / 1e9, 0.0, 0.0]))
    place, found = rigid(rotation_z(0.7), np.array([100.0, -40.0, 2.0])), []
    for number in range(count):
        found.append((number * STEP_NS, place))
        place = place @ step
    return found


@given(st.floats(-20, 20), st.floats(-0.1, 0.1), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_world_that_stands_still_lines_up(speed: float, turn: float, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = rng.uniform(-30, 30, (40, 3)) + np.array([100.0, -40.0, 2.0])
    brightness = rng.uniform(0, 1, (40, 1))
    places = drive(speed, turn, count)
    sweeps = [
        sweep(time_ns, np.hstack([apply(invert(place @ PLACED), world), brightness])) for time_ns, place in places
    ]
    newest = places[-1][0]
    merged = merge_sweeps(sweeps[::-1], PLACED, newest, EgoMotion.of(places))
    expected = apply(invert(places[-1][1]), world)
    assert (merged.sweeps, merged.uncompensated) == (count, 0)
    for number in range(count):
        part = merged.points[number * 40 : (number + 1) * 40]
        np.testing.assert_allclose(part[:, :3], expected, atol=1e-3)
        np.testing.assert_allclose(part[:, 3:4], brightness, atol=1e-6)
        np.testing.assert_allclose(part[:, 4], -number * STEP_NS / 1e9, atol=1e-6)


@given(st.lists(st.tuples(finite, finite, finite, st.floats(0, 1)), max_size=20))
def test_one_sweep_is_itself(rows: list[tuple[float, ...]]) -> None:
    points = np.array(rows, np.float32).reshape(-1, 4)
    merged = merge_sweeps([sweep(7, points)], np.eye(4), 7)
    assert merged.points.dtype == np.float32
    np.testing.assert_array_equal(merged.points[:, :4], points)
    assert not merged.points[:, 4].any()


def test_without_motion_sweeps_stay_where_they_are_and_are_counted() -> None:
    points = np.array([[5.0, 1, 1, 0.5]])
    merged = merge_sweeps([sweep(0, points), sweep(STEP_NS, points)], np.eye(4), STEP_NS)
    assert merged.uncompensated == 1
    np.testing.assert_allclose(merged.points[:, :3], [[5, 1, 1], [5, 1, 1]])
    np.testing.assert_allclose(merged.points[:, 4], [0, -0.05])


def test_points_that_are_none_or_on_the_own_vehicle_are_dropped_and_intensity_is_a_share() -> None:
    rows = np.array([[0.0, 0, 1, 200], [9, 0, 1, 51], [np.nan, 0, 1, 1], [9, 1, 1, np.inf], [8, 0, 1, 900]])
    body = OwnBody((-1.0, -1.0, 0.0), (3.0, 1.0, 2.0))
    merged = merge_sweeps([sweep(0, rows)], np.eye(4), 0, body=body, full_scale=255)
    np.testing.assert_allclose(merged.points[:, :4], [[9, 0, 1, 0.2], [8, 0, 1, 1]], atol=1e-6)


def test_the_own_body_is_where_the_vehicle_was() -> None:
    places = drive(20.0, 0.0, 2)  # 1 m a sweep: the bonnet of the sweep before lies behind the one of now
    bonnet = np.array([[2.9, 0, 1, 0.5], [3.5, 0, 1, 0.5]])
    body = OwnBody((0.0, -1.0, 0.0), (3.0, 1.0, 2.0))
    merged = merge_sweeps([sweep(0, bonnet)], np.eye(4), STEP_NS, EgoMotion.of(places), body=body)
    np.testing.assert_allclose(merged.points[:, :3], [[2.5, 0, 1]], atol=1e-5)


def test_offsets_of_points_make_dt_finer_and_the_future_is_now() -> None:
    points = np.zeros((2, 4))
    merged = merge_sweeps([sweep(0, points, np.array([-0.1, 0.0], np.float32))], np.eye(4), 20_000_000)
    np.testing.assert_allclose(merged.points[:, 4], [-0.12, -0.02], atol=1e-6)
    ahead = merge_sweeps([sweep(30_000_000, points)], np.eye(4), 20_000_000)
    assert not ahead.points[:, 4].any()


def test_no_sweeps_are_no_points() -> None:
    assert merge_sweeps([], np.eye(4), 0).points.shape == (0, 5)


def test_a_reading_that_is_no_sweep_is_named() -> None:
    picture = Reading("front", Modality.CAMERA, 0, Image(np.zeros((1, 1, 3), np.uint8)))
    with pytest.raises(InputError, match=r"front.*\(N, 4\)"):
        merge_sweeps([picture], np.eye(4), 0)


@given(st.floats(0, 1), finite, finite, finite)
def test_between_two_places_the_way_is_even(share: float, x: float, y: float, z: float) -> None:
    start = rigid(axis_rotation(np.array([0.2, -0.1, 0.4])), np.array([1.0, 2.0, 3.0]))
    vector = np.array([x, y, z]) / 3  # at most 1.74 rad
    end = rigid(start[:3, :3] @ axis_rotation(vector), np.array([4.0, 2.0, -3.0]))
    time_ns = round(share * 1_000_000)
    found = EgoMotion.of([(1_000_000, end), (0, start)]).at(time_ns)
    assert found is not None
    expected = start[:3, :3] @ axis_rotation(time_ns / 1e6 * vector)
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], start[:3, 3] + time_ns / 1e6 * np.array([3, 0, -6]), atol=1e-9)


def test_outside_the_known_stretch_nothing_is_known() -> None:
    motion = EgoMotion.of([(0, np.eye(4)), (10, np.eye(4))])
    assert motion.at(-1) is None
    assert motion.at(11) is None
    assert motion.moved(5, 11) is None
    assert motion.moved(11, 11) is not None
    with pytest.raises(InputError, match="5 ns"):
        EgoMotion.of([(5, np.full((4, 4), np.nan))])


@pytest.mark.parametrize("axis", [[np.pi, 0, 0], [0, np.pi, 0], [0, 1e-9, 0], [0, 0, 0], [0.3, -2, 1]])
def test_a_rotation_is_its_vector(axis: list[float]) -> None:
    rotation = axis_rotation(np.array(axis))
    np.testing.assert_allclose(axis_rotation(rotation_vector(rotation)), rotation, atol=1e-8)
