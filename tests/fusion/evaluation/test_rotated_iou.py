"""Rotated overlap: the reference pairs, and what holds for any pair of boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.evaluation.rotated_iou import bev_and_box_iou, bev_intersection, bev_iou, box_iou, image_iou

FROM_ABOVE = [0, 1, 3, 4, 6]
length = st.floats(0.05, 20)
place = st.floats(-60, 60)
boxes = st.tuples(place, place, st.floats(-3, 3), length, length, length, st.floats(-7, 7)).map(np.array)
nearby = st.tuples(*[st.floats(-2, 2)] * 3, *[st.floats(0.5, 2)] * 3, st.floats(-7, 7)).map(np.array)


def neighbour(box: np.ndarray, change: np.ndarray) -> np.ndarray:
    return np.concatenate([box[:3] + change[:3] * box[3:6] / 2, box[3:6] * change[3:6], [box[6] + change[6]]])


def upright(kitti: np.ndarray) -> np.ndarray:
    x, y, z, height, width, length, turn = kitti.T
    return np.stack([x, z, height / 2 - y, length, width, height, -turn], 1)


def test_reference_pairs(kitti_oracle: Path) -> None:
    pairs = json.loads((kitti_oracle / "boxes_iou.json").read_text())["pairs"]
    assert len(pairs) == 200
    a, b = (upright(np.array([pair[side] for pair in pairs])) for side in "ab")
    expected = {name: np.array([pair[name] for pair in pairs]) for name in ("bev_intersection", "bev_iou", "iou_3d")}
    np.testing.assert_allclose(
        bev_intersection(a[:, FROM_ABOVE], b[:, FROM_ABOVE]), expected["bev_intersection"], atol=1e-9
    )
    above, in_space = bev_and_box_iou(a, b)
    np.testing.assert_allclose(above, expected["bev_iou"], atol=1e-9)
    np.testing.assert_allclose(in_space, expected["iou_3d"], atol=1e-9)
    identical = [pair["kind"] == "identical" for pair in pairs]
    assert (above[identical] == 1).all(), "not even rounding is lost on a box and itself"


@settings(max_examples=200, deadline=None)
@given(box=boxes, change=nearby)
def test_symmetric_and_a_share(box: np.ndarray, change: np.ndarray) -> None:
    other = neighbour(box, change)
    there, back = bev_and_box_iou(box, other), bev_and_box_iou(other, box)
    for one, two in zip(there, back, strict=True):
        assert 0 <= one <= 1
        assert one == pytest.approx(two, abs=1e-9)
    assert there[1] <= there[0] + 1e-12, "what overlaps in space overlaps from above at least as much"


@settings(max_examples=200, deadline=None)
@given(box=boxes, change=nearby, turn=st.floats(-7, 7), shift=st.tuples(place, place, place))
def test_a_common_motion_changes_nothing(box, change, turn, shift) -> None:
    other = neighbour(box, change)
    c, s = np.cos(turn), np.sin(turn)

    def moved(one: np.ndarray) -> np.ndarray:
        x, y = c * one[0] - s * one[1], s * one[0] + c * one[1]
        return np.array([x + shift[0], y + shift[1], one[2] + shift[2], *one[3:6], one[6] + turn])

    np.testing.assert_allclose(bev_and_box_iou(moved(box), moved(other)), bev_and_box_iou(box, other), atol=1e-8)


@settings(max_examples=200, deadline=None)
@given(box=boxes, turns=st.integers(-4, 4))
def test_a_box_is_itself(box: np.ndarray, turns: int) -> None:
    assert bev_and_box_iou(box, box) == (1, 1)
    turned = box + np.array([0, 0, 0, 0, 0, 0, turns * np.pi])
    np.testing.assert_allclose(bev_and_box_iou(box, turned), 1, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(box=boxes, change=nearby)
def test_area_by_counting_points(box: np.ndarray, change: np.ndarray) -> None:
    """Against a definition that shares nothing with the clipping: the share of points of one box inside the other."""
    other = neighbour(box, change)[FROM_ABOVE]
    box = box[FROM_ABOVE]
    unit = (np.stack(np.meshgrid(np.arange(300), np.arange(300)), -1).reshape(-1, 2) + 0.5) / 300 - 0.5
    along, across = (unit * box[2:4]).T
    x = box[0] + np.cos(box[4]) * along - np.sin(box[4]) * across - other[0]
    y = box[1] + np.sin(box[4]) * along + np.cos(box[4]) * across - other[1]
    inside = np.abs(np.cos(other[4]) * x + np.sin(other[4]) * y) < other[2] / 2
    inside &= np.abs(np.cos(other[4]) * y - np.sin(other[4]) * x) < other[3] / 2
    assert bev_intersection(box, other) / np.prod(box[2:4]) == pytest.approx(inside.mean(), abs=0.02)


def test_side_by_side_touch_and_share_nothing() -> None:
    box = np.array([0, 0, 4, 2, 0.3])
    beside = box + np.array([-2 * np.sin(0.3), 2 * np.cos(0.3), 0, 0, 0])
    assert bev_iou(box, beside) == pytest.approx(0, abs=1e-12)


def test_half_a_box_in_a_box() -> None:
    assert bev_iou(np.array([0, 0, 4, 2, 0]), np.array([1, 0, 2, 2, 0])) == pytest.approx(0.5)
    assert bev_iou(np.array([0, 0, 2, 2, 0]), np.array([0, 0, 2, 2, np.pi / 4])) == pytest.approx(1 / np.sqrt(2))
    assert box_iou(np.array([0, 0, 0, 2, 2, 2, 0]), np.array([0, 0, 1, 2, 2, 2, 0])) == pytest.approx(1 / 3)
    assert image_iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)


def test_matrices_are_pairs() -> None:
    rng = np.random.default_rng(2)
    a, b = (np.column_stack([rng.normal(0, 2, (n, 3)), rng.uniform(1, 4, (n, 3)), rng.normal(0, 3, n)]) for n in (5, 7))
    matrix = box_iou(a[:, None], b[None])
    assert matrix.shape == (5, 7)
    assert (matrix > 0).any()
    for i in range(5):
        for j in range(7):
            assert matrix[i, j] == box_iou(a[i], b[j])
    assert box_iou(a[:0, None], b[None]).shape == (0, 7)


def test_no_box_overlaps_nothing() -> None:
    nothing = np.array([0, 0, 0, -1, -1, -1, 0.0])
    assert bev_and_box_iou(nothing, nothing) == (0, 0)
    assert box_iou(nothing, np.array([0, 0, 0, 5, 5, 5, 0])) == 0
    assert image_iou(np.array([3, 3, 3, 3]), np.array([3, 3, 3, 3])) == 0
