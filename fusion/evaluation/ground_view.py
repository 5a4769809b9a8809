"""The ground around the ego frame from above: distances, points, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.box_drawing import Ground, Pen, ShownBox, draw_line, draw_on_ground
from fusion.evaluation.text_drawing import BACK, WHITE, draw_text
from fusion.types import Float32Array, UInt8Array

LOW_M, HIGH_M = -1.0, 4.0
"""Heights over the road that points are coloured between."""
_RINGS_M = (2, 5, 10, 20, 50)
_MOST_RINGS = 10
_LABEL_PX = 14
_RING, _DISTANCE = (48, 51, 58), (120, 124, 134)
_DARK = 22


@dataclass(frozen=True, slots=True)
class PictureView:
    """How much ground is shown ahead of the ego frame, behind it and to either side, in metres.

    The road is at z = `road_m`. With `dotted` the points are drawn into the pictures, too.
    """

    ahead_m: float = 50.0
    behind_m: float = 50.0
    side_m: float = 50.0
    road_m: float = 0.0
    dotted: bool = False

    def ground(self, width: int) -> Ground:
        """The ground on a panel so many pixels wide."""
        return Ground(self.ahead_m, self.behind_m, self.side_m, width / (2 * self.side_m))


WHOLE = PictureView()


def from_above(
    ground: Ground, points: Float32Array, road_m: float, boxes: Sequence[tuple[ShownBox, Pen]]
) -> UInt8Array:
    """The panel (H, W, 3) of `ground` with `points` (n, 3 or more) in metres, and boxes in the order they come."""
    width, height = ground.size
    panel = np.full((height, width, 3), BACK, np.uint8)
    middle = ground.places(np.zeros((1, 2)))[0]
    _rings(panel, ground, middle)
    _draw_points(panel, ground, points, road_m)
    for shown, pen in boxes:
        draw_on_ground(panel, ground, shown, pen)
    for tip in ([1.5, 0.0], [0.0, 1.0]):
        draw_line(panel, middle, ground.places(np.array([tip]))[0], Pen(WHITE))
    return panel


def shades(share: NDArray[np.floating[Any]]) -> UInt8Array:
    """RGB (n, 3) of shares (n,), blue at 0 to red at 1, without the dark ends of the scale."""
    if not share.size:
        return np.zeros((0, 3), np.uint8)
    levels = (_DARK + np.clip(share, 0, 1) * (255 - 2 * _DARK)).astype(np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1], np.uint8)


def _rings(panel: UInt8Array, ground: Ground, middle: NDArray[np.float64]) -> None:
    """Circles a round number of metres apart, each with its distance straight ahead."""
    farthest = float(np.hypot(ground.side_m, max(ground.ahead_m, ground.behind_m)))
    step = next((m for m in _RINGS_M if farthest / m <= _MOST_RINGS), _RINGS_M[-1])
    centre = (int(middle[0]), int(middle[1]))
    for metres in range(step, int(farthest) + 1, step):
        radius = round(metres * ground.pixels_a_metre)
        cv2.circle(panel, centre, radius, _RING, 1, cv2.LINE_AA)
        if centre[1] - radius > _LABEL_PX:
            draw_text(panel, f"{metres} m", (centre[0] + 4, centre[1] - radius - 3), _DISTANCE, 0.4)


def _draw_points(panel: UInt8Array, ground: Ground, points: Float32Array, road_m: float) -> None:
    """The highest point of a pixel is seen."""
    places = np.floor(ground.places(points[:, :2].astype(np.float64))).astype(np.int64)
    height, width = panel.shape[:2]
    inside = ((places >= 0) & (places < [width, height])).all(axis=1)
    places, z = places[inside], points[inside, 2] - road_m
    order = np.argsort(z, kind="stable")
    panel[places[order, 1], places[order, 0]] = shades((z[order] - LOW_M) / (HIGH_M - LOW_M))
