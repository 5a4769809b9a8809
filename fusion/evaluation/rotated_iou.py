"""Exact overlap of upright boxes, from above (BEV) and in space, for all pairs at once.

A convex polygon is clipped to a rectangle by clamping its boundary to the rectangle: what lies outside collapses onto
the rectangle's sides and encloses no area, so Green's theorem on the clamped boundary gives the intersection's area.
No vertex is ever added, dropped or sorted by angle, which is where clippers go wrong when sides coincide: equal,
touching and contained boxes are ordinary cases here.
"""

from __future__ import annotations

import numpy as np

from fusion.types import Float64Array

_CHUNK = 4096
"""Pairs clipped at a time, so that intermediate results stay in the processor's cache."""
_CORNERS = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
"""Corners in units of (length, width), counter-clockwise."""


def bev_intersection(a: Float64Array, b: Float64Array) -> Float64Array:
    """Area in m² that boxes `a` and `b` share, seen from above; shapes (..., 5) broadcast as numpy does, result (...).

    A box is x, y of the centre, length along its heading, width across (metres) and yaw (radians, counter-clockwise
    from x towards y). A box without positive length and width shares nothing.
    """
    first, second = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    shape = first.shape[:-1]
    first, second = first.reshape(-1, 5), second.reshape(-1, 5)
    reach = (np.hypot(first[:, 2], first[:, 3]) + np.hypot(second[:, 2], second[:, 3])) / 2
    apart = np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1])
    solid = (first[:, 2:4] > 0).all(1) & (second[:, 2:4] > 0).all(1)
    near = np.flatnonzero(solid & (apart < reach))
    area = np.zeros(len(first))
    for start in range(0, len(near), _CHUNK):
        rows = near[start : start + _CHUNK]
        area[rows] = _clipped_area(first[rows], second[rows])
    return area.reshape(shape)


def bev_iou(a: Float64Array, b: Float64Array) -> Float64Array:
    """Intersection over union from above, 0..1; boxes (..., 5) as for `bev_intersection`, result (...)."""
    shared = bev_intersection(a, b)
    return _over_union(shared, _product(a, 2, 4), _product(b, 2, 4))


def bev_and_box_iou(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Intersection over union from above and in space, 0..1, of boxes (..., 7) that broadcast; results (...).

    A box is x, y, z of its centre, length, width, height (metres) and yaw about z (radians), as `fusion.types.Box3D`.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ground = [0, 1, 3, 4, 6]
    shared = bev_intersection(a[..., ground], b[..., ground])
    above = _over_union(shared, _product(a, 3, 5), _product(b, 3, 5))
    return above, _over_union(shared * _height_overlap(a, b), _product(a, 3, 6), _product(b, 3, 6))


def box_iou(a: Float64Array, b: Float64Array) -> Float64Array:
    """Intersection over union in space alone, 0..1; boxes (..., 7) as for `bev_and_box_iou`, result (...)."""
    return bev_and_box_iou(a, b)[1]


def image_intersection(a: Float64Array, b: Float64Array) -> Float64Array:
    """Area in square pixels that image boxes `x1 y1 x2 y2` (..., 4) share; they broadcast, result (...)."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.asarray(np.maximum(high - low, 0.0).prod(-1))


def image_iou(a: Float64Array, b: Float64Array) -> Float64Array:
    """Intersection over union, 0..1, of image boxes `x1 y1 x2 y2` (..., 4); they broadcast, result (...)."""
    return _over_union(image_intersection(a, b), (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1))


def _clipped_area(polygon: Float64Array, window: Float64Array) -> Float64Array:
    """Area (N,) of the rectangles `polygon` (N, 5) inside the rectangles `window` (N, 5), in the windows' own axes."""
    start_x, start_y = _corners_seen_from(polygon, window)  # (N, 4)
    step_x, step_y = np.roll(start_x, -1, 1) - start_x, np.roll(start_y, -1, 1) - start_y
    half_x, half_y = window[:, 2, None] / 2, window[:, 3, None] / 2
    # a side leaves or enters the window's two strips at four places; between those its clamped image is straight
    places = np.empty((len(polygon), 4, 6))
    places[..., 0], places[..., 5] = 0.0, 1.0
    for column, (start, step, limit) in enumerate(
        ((start_x, step_x, half_x), (start_x, step_x, -half_x), (start_y, step_y, half_y), (start_y, step_y, -half_y)),
        1,
    ):
        with np.errstate(over="ignore"):  # of a side almost along the strip
            crossing = np.divide(limit - start, step, out=np.zeros_like(start), where=step != 0)
        places[..., column] = np.clip(crossing, 0.0, 1.0)
    places[..., 1:5].sort(-1)
    half_x, half_y = half_x[..., None], half_y[..., None]
    x = np.clip(start_x[..., None] + places * step_x[..., None], -half_x, half_x)  # (N, 4, 6)
    y = np.clip(start_y[..., None] + places * step_y[..., None], -half_y, half_y)
    area = ((x[..., 1:] + x[..., :-1]) * np.diff(y, axis=-1)).sum((1, 2)) / 2
    return np.asarray(np.clip(area, 0.0, np.minimum(_product(polygon, 2, 4), _product(window, 2, 4))))


def _corners_seen_from(polygon: Float64Array, window: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Corners of `polygon` (N, 5) in the axes of `window` (N, 5), whose origin is its centre: x (N, 4) and y (N, 4)."""
    away = polygon[:, :2] - window[:, :2]
    c, s = np.cos(window[:, 4]), np.sin(window[:, 4])
    turn = polygon[:, 4] - window[:, 4]
    along, across = _CORNERS[:, 0] * polygon[:, 2, None], _CORNERS[:, 1] * polygon[:, 3, None]
    tc, ts = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return (
        (c * away[:, 0] + s * away[:, 1])[:, None] + tc * along - ts * across,
        (c * away[:, 1] - s * away[:, 0])[:, None] + ts * along + tc * across,
    )


def _height_overlap(a: Float64Array, b: Float64Array) -> Float64Array:
    away = a[..., 2] - b[..., 2]
    low = np.maximum(away - a[..., 5] / 2, -b[..., 5] / 2)
    high = np.minimum(away + a[..., 5] / 2, b[..., 5] / 2)
    return np.asarray(np.maximum(high - low, 0.0))


def _product(boxes: Float64Array, start: int, stop: int) -> Float64Array:
    return np.asarray(np.asarray(boxes, np.float64)[..., start:stop].prod(-1))


def _over_union(shared: Float64Array, size_a: Float64Array, size_b: Float64Array) -> Float64Array:
    union = size_a + size_b - shared
    return np.asarray(np.minimum(np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0), 1.0))
