"""Detections as the fusion model's item queries: boxes, rays, places, and each item's own LiDAR points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.geometry import CameraCalibration
from fusion.preparation.rays import RAY_DEPTHS, ground_points, ray_points
from fusion.types import BoolArray, Box2D, Float32Array, Float64Array

MAX_ITEMS = 32
"""Item queries of the fuser; detections beyond are not fused."""
ITEM_POINTS = 96
"""LiDAR points kept an item."""
POINT_CHANNELS = 7
"""Along the line of sight, to its left, up (metres from the item's median point), intensity, and the place in the
box, -1..1 across and down, and how far behind the item's own smooth surface it lies, in metres."""
POINT_SCALE = (4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 12.0)
"""What the channels are multiplied by to be about one where it matters: a dent is 8 cm deep."""
_LEAST_POINTS = 3
_GROUND_M = 0.04
_BEFORE_M, _BEHIND_M = 0.8, 1.2
_SURFACE_M, _ON_SURFACE_M, _FARTHEST_M = 0.45, 0.2, 0.5
_SURFACE_POINTS = 6


@dataclass(frozen=True, slots=True, eq=False)
class ItemArrays:
    """One row an item query, Q = 32 in all; rows beyond the detections are zero and not valid.

    `boxes` (Q, 4) float32 cx cy w h in 0..1 of the model's input image; `box_rays` (Q, 48) metres;
    `class_scores` (Q, C) and `condition_scores` (Q, K) are the detector's; `box_valid` (Q,) bool; `item_place` (Q, 3)
    metres in the ego frame: the median LiDAR point, or where the box's foot meets the ground; `item_points` (Q, 96, 7)
    and `item_points_valid` (Q, 96).
    """

    boxes: Float32Array
    box_rays: Float32Array
    class_scores: Float32Array
    condition_scores: Float32Array
    box_valid: BoolArray
    item_place: Float32Array
    item_points: Float32Array
    item_points_valid: BoolArray

    @classmethod
    def empty(cls, classes: int, rows: int = MAX_ITEMS, *, conditions: int = 0) -> ItemArrays:
        """No item at all."""
        return cls(
            np.zeros((rows, 4), np.float32),
            np.zeros((rows, 3 * len(RAY_DEPTHS)), np.float32),
            np.zeros((rows, classes), np.float32),
            np.zeros((rows, conditions), np.float32),
            np.zeros(rows, np.bool_),
            np.zeros((rows, 3), np.float32),
            np.zeros((rows, ITEM_POINTS, POINT_CHANNELS), np.float32),
            np.zeros((rows, ITEM_POINTS), np.bool_),
        )

    def batched(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by graph input name, with a leading batch axis of one."""
        return {field.name: getattr(self, field.name)[None] for field in fields(self)}


def item_arrays(
    boxes: Sequence[Box2D],
    class_scores: Float32Array,
    calibration: CameraCalibration,
    points: Float32Array | None,
    *,
    condition_scores: Float32Array | None = None,
    rows: int = MAX_ITEMS,
) -> ItemArrays:
    """The item queries of `boxes`, in pixels of the image `calibration` describes; the first `rows` of them.

    `class_scores` (n, C) and `condition_scores` (n, K) belong to the boxes. `points` (M, 4) float32 x y z intensity in
    the ego frame are the sweep, None when there is none.
    """
    conditions = 0 if condition_scores is None else condition_scores.shape[1]
    arrays = ItemArrays.empty(class_scores.shape[1], rows, conditions=conditions)
    count = min(len(boxes), rows)
    if not count:
        return arrays
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in boxes[:count]], np.float64)
    centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    image = np.array([calibration.width, calibration.height], np.float64)
    arrays.boxes[:count] = np.concatenate([centres / image, sizes / image], 1)
    arrays.box_rays[:count] = ray_points(calibration, centres)
    arrays.class_scores[:count] = class_scores[:count]
    if condition_scores is not None:
        arrays.condition_scores[:count] = condition_scores[:count]
    arrays.box_valid[:count] = True
    arrays.item_place[:count] = ground_points(calibration, np.stack([centres[:, 0], corners[:, 3]], 1))
    if points is not None and len(points):
        _read_points(arrays, corners, calibration, points)
    return arrays


def _read_points(
    arrays: ItemArrays, corners: Float64Array, calibration: CameraCalibration, points: Float32Array
) -> None:
    above = points[(points[:, 2] > _GROUND_M) & np.isfinite(points).all(1)]
    pixels, inside = calibration.project(above[:, :3].astype(np.float64))
    above, pixels = above[inside], pixels[inside]
    eye = calibration.ego_from_camera[:2, 3]
    reach = np.hypot(above[:, 0] - eye[0], above[:, 1] - eye[1])
    across = np.argsort(pixels[:, 0], kind="stable")
    columns = pixels[across, 0]
    for row, (x1, y1, x2, y2) in enumerate(corners):
        near = np.sort(across[slice(*np.searchsorted(columns, (x1, np.nextafter(x2, np.inf))))])
        own = near[(pixels[near, 1] >= y1) & (pixels[near, 1] <= y2)]
        place = (2 * pixels[own] - (x1 + x2, y1 + y2)) / (x2 - x1, y2 - y1)
        front = _foreground(reach[own], place)
        if np.count_nonzero(front) >= _LEAST_POINTS:
            _fill(arrays, row, above[own[front]], place[front], eye)
    count = len(corners)
    own_points = arrays.item_points[:count]
    own_points[..., 6] = surface_residuals(own_points, arrays.item_points_valid[:count])


def _foreground(reach: Float64Array, place: Float64Array) -> BoolArray:
    """Of the points inside a box, those about as far as the nearer ones in its middle: (n,) by distance and place."""
    middle = reach[(np.abs(place) < 0.6).all(1)]
    if len(middle) < _LEAST_POINTS:
        middle = reach
    if not len(middle):
        return np.zeros(0, np.bool_)
    distance = float(_quantile(middle, 0.3))
    return np.asarray((reach > distance - _BEFORE_M) & (reach < distance + _BEHIND_M))


def _fill(arrays: ItemArrays, row: int, points: Float32Array, place: Float64Array, eye: Float64Array) -> None:
    """Write one item's points, turned into the line of sight, evenly thinned to `ITEM_POINTS`."""
    centre = _quantile(points[:, :3], 0.5)
    sight = centre[:2] - eye
    sight = sight / max(float(np.linalg.norm(sight)), 1e-6)
    if len(points) > ITEM_POINTS:
        kept = np.linspace(0, len(points) - 1, ITEM_POINTS).round().astype(np.intp)
        points, place = points[kept], place[kept]
    offset = points[:, :3] - centre
    count = len(points)
    values = arrays.item_points[row, :count]
    values[:, 0] = offset[:, 0] * sight[0] + offset[:, 1] * sight[1]
    values[:, 1] = offset[:, 1] * sight[0] - offset[:, 0] * sight[1]
    values[:, 2] = offset[:, 2]
    values[:, 3] = points[:, 3]
    values[:, 4:6] = place
    arrays.item_points_valid[row, :count] = True
    arrays.item_place[row] = centre


def _quantile(values: NDArray[Any], share: float) -> NDArray[Any]:
    """Along the first axis, interpolated: `np.quantile` without its cost a call, which is paid for every box."""
    ordered, at = np.sort(values, axis=0), share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return np.asarray(ordered[low] + (ordered[high] - ordered[low]) * (at - low), values.dtype)


def surface_residuals(points: Float32Array, valid: BoolArray) -> Float32Array:
    """How far each point lies behind its item's smooth surface: (n, K) metres, at most half a metre.

    `points` (n, K, >= 2) hold metres along the line of sight and to its left, `valid` (n, K) says which count. The
    surface is the parabola over the second that fits the first: a drum's side seen from afar is nearly that at
    every height, so a dent stands out. Points far off it are left out and the rest is fitted again, three times.
    """
    depth, aside = points[..., 0].astype(np.float64), points[..., 1].astype(np.float64)
    terms = np.stack([np.ones_like(aside), aside, aside * aside], -1)  # (n, K, 3)
    residual = np.where(valid, depth, 0.0)
    near = valid & (np.abs(residual) < _SURFACE_M)
    for _ in range(3):
        weighted = terms * near[..., None]
        normal = weighted.swapaxes(1, 2) @ terms + 1e-4 * np.eye(3)  # (n, 3, 3)
        curve = np.linalg.solve(normal, weighted.swapaxes(1, 2) @ depth[..., None])  # (n, 3, 1)
        enough = near.sum(1, keepdims=True) >= _SURFACE_POINTS
        residual = np.where(enough, depth - (terms @ curve)[..., 0], residual)
        near = valid & (np.abs(residual) < _ON_SURFACE_M)
    return np.where(valid, np.clip(residual, -_FARTHEST_M, _FARTHEST_M), 0.0).astype(np.float32)
