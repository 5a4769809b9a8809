"""The ground from above as SVG parts: the ego vehicle, rings, the device's 3-D box, LiDAR points where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fusion.types import Box3D, Float64Array

MOST_POINTS = 4000
MARGIN_M = 2.0
LEAST_M = 6.0
_RING_STEPS_M = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_MOST_RINGS = 6


@dataclass(frozen=True, slots=True)
class TopView:
    """SVG in metres: x to the right is the ego frame's -y, y downwards its -x, so that ahead is up.

    `left, top, width, height` are the view box, `rings` radii, `box` the corners of the 3-D box, `nose` the line from
    its middle to its front, `dots` a path of points.
    """

    left: float
    top: float
    width: float
    height: float
    rings: tuple[int, ...]
    box: str
    nose: str
    dots: str
    words: str


def top_view(box: Box3D | None, points: Float64Array | None = None) -> TopView | None:
    """The view that holds the ego vehicle, `box` and `points` (N, 3 or more; metres, ego frame); None of nothing."""
    if box is None and (points is None or not len(points)):
        return None
    corners = _corners(box) if box is not None else np.zeros((0, 2))
    places = _shown(points)
    seen = np.concatenate([corners, places, np.zeros((1, 2))])
    low, high = seen.min(0) - MARGIN_M, seen.max(0) + MARGIN_M
    middle, size = (low + high) / 2, np.maximum(high - low, LEAST_M)
    farthest = float(np.linalg.norm(np.maximum(abs(middle - size / 2), abs(middle + size / 2))))
    step = next((m for m in _RING_STEPS_M if farthest / m <= _MOST_RINGS), _RING_STEPS_M[-1])
    nose = np.concatenate([corners.mean(0, keepdims=True), corners[:2].mean(0, keepdims=True)]) if box else corners
    return TopView(
        left=float(-middle[1] - size[1] / 2),
        top=float(-middle[0] - size[0] / 2),
        width=float(size[1]),
        height=float(size[0]),
        rings=tuple(range(step, int(min(farthest, 20 * step)) + 1, step)),
        box=_polyline(corners),
        nose=_polyline(nose),
        dots="".join(f"M{-y:.2f} {-x:.2f}h0" for x, y in places),
        words=_words(box),
    )


def _corners(box: Box3D) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The four corners on the ground (4, 2), the front two first."""
    half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [box.length / 2, box.width / 2]
    cosine, sine = math.cos(box.yaw), math.sin(box.yaw)
    return np.asarray(half @ np.array([[cosine, sine], [-sine, cosine]]) + [box.x, box.y])


def _shown(points: Float64Array | None) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """At most `MOST_POINTS` places (n, 2), evenly taken; what is not finite is left out."""
    if points is None:
        return np.zeros((0, 2))
    places = np.asarray(points[:, :2], np.float64)
    places = places[np.isfinite(places).all(1)]
    return places[:: max(1, -(-len(places) // MOST_POINTS))]


def _polyline(places: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> str:
    return " ".join(f"{-y:.2f},{-x:.2f}" for x, y in places)


def _words(box: Box3D | None) -> str:
    if box is None:
        return "LiDAR points, no 3-D box"
    side = "left" if box.y >= 0 else "right"
    return (
        f"{abs(box.x):.1f} m {'ahead' if box.x >= 0 else 'behind'}, {abs(box.y):.1f} m to the {side}; "
        f"{box.length:.1f} x {box.width:.1f} x {box.height:.1f} m, turned {math.degrees(box.yaw):.0f}°"
    )
