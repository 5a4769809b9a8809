"""Boxes in space drawn into a picture and onto the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fusion.evaluation.text_drawing import WHITE, Colour
from fusion.geometry import rotation_z
from fusion.types import Box3D, Float32Array, Float64Array, UInt8Array

THIN, THICK = 1, 2
_NEAR_M = 0.2
_HALO = 4
_FILL = 0.25
_STILL_M_S = 0.2
_SHIFT = 4
"""Lines are placed to a sixteenth of a pixel."""
_FARTHEST_PX = 8000.0
_DASH_PX, _SPACE_PX = 5.0, 4.0
_MOST_DASHES = 400
_CORNERS = np.array([[x, y, z] for x in (0.5, -0.5) for y in (0.5, -0.5) for z in (-0.5, 0.5)])
"""In units of length, width and height; the first four are the front's."""
_EDGES = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)]
_FRONT = [(0, 3), (1, 2)]
_ROOF = (1, 3, 7, 5)


class Pen(NamedTuple):
    """What lines look like: RGB colour, thickness in pixels, whole or dashed."""

    colour: Colour
    thickness: int = THICK
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class ShownBox:
    """A box in the ego frame with what is said of it.

    `score` 0..1, `velocity` m/s along the ego frame's x and y, `condition` in a word; `asked` says that somebody asked
    for it.
    """

    box: Box3D
    label: str
    score: float | None = None
    velocity: tuple[float, float] | None = None
    condition: str | None = None
    asked: bool = False

    @property
    def text(self) -> str:
        """Label with its score, then the condition."""
        score = None if self.score is None else f"{self.score:.2f}"
        return " ".join(part for part in (self.label, score, self.condition) if part)


@dataclass(frozen=True, slots=True)
class Ground:
    """The piece of ground that is shown, in metres from the ego frame, and its pixels a metre; x is up, y left."""

    ahead_m: float
    behind_m: float
    side_m: float
    pixels_a_metre: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (
            round(2 * self.side_m * self.pixels_a_metre),
            round((self.ahead_m + self.behind_m) * self.pixels_a_metre),
        )

    def places(self, points: Float64Array) -> Float64Array:
        """Pixels (n, 2) of `points` (n, 2 or 3) of the ego frame."""
        across, along = self.side_m - points[:, 1], self.ahead_m - points[:, 0]
        return np.stack([across, along], axis=1) * self.pixels_a_metre


def corners(box: Box3D) -> Float64Array:
    """The eight corners (8, 3) in the ego frame; the first four are the front's."""
    sized = _CORNERS * [box.length, box.width, box.height]
    return np.asarray(sized @ rotation_z(box.yaw).T + [box.x, box.y, box.z])


def draw_in_picture(
    picture: UInt8Array, image_from_ego: Float32Array, box: Box3D, pen: Pen, *, halo: bool = False
) -> tuple[int, int] | None:
    """Draw the edges of a box, crossed on its front unless dashed, into `picture` (H, W, 3).

    `image_from_ego` (3, 4) as in `Surround`. What lies behind the camera is cut off; with `halo` white lies beneath
    the lines. Returns the upper left corner of what is seen, in pixels; None when nothing is.
    """
    height, width = picture.shape[:2]
    points = corners(box)
    projected = (image_from_ego[:, :3] @ points.T + image_from_ego[:, 3:]).T * [width, height, 1.0]  # (8, 3)
    lines = _lines(projected, _EDGES)
    if not lines:
        return None
    left, top = np.min([end for line in lines for end in line], axis=0)
    right, bottom = np.max([end for line in lines for end in line], axis=0)
    if left >= width or top >= height or right < 0 or bottom < 0:
        return None
    if halo:
        for line in lines:
            draw_line(picture, *line, Pen(WHITE, pen.thickness + _HALO))
    if not pen.dashed:
        for line in _lines(projected, _FRONT):
            draw_line(picture, *line, pen._replace(thickness=THIN))
    for line in lines:
        draw_line(picture, *line, pen)
    return max(0, int(left)), max(0, int(top))


def draw_on_ground(panel: UInt8Array, ground: Ground, shown: ShownBox, pen: Pen) -> None:
    """Draw a box from above, with a line from its centre over its front and an arrow of one second's way.

    Boxes in whole lines are tinted, those asked for lie on white.
    """
    box = shown.box
    outline = ground.places(corners(box)[list(_ROOF)])
    sides = list(zip(outline, np.roll(outline, -1, axis=0), strict=True))
    if not pen.dashed:
        _tint(panel, outline, pen.colour)
    if shown.asked:
        for start, end in sides:
            draw_line(panel, start, end, Pen(WHITE, pen.thickness + _HALO))
    for start, end in sides:
        draw_line(panel, start, end, pen)
    forward = np.array([np.cos(box.yaw), np.sin(box.yaw)])
    centre = np.array([box.x, box.y])
    tip = centre + forward * (box.length / 2 + 0.6)
    middle, nose = ground.places(np.array([centre, tip]))
    draw_line(panel, middle, nose, pen)
    speed = float(np.hypot(*shown.velocity)) if shown.velocity else 0.0
    if shown.velocity and np.isfinite(speed) and speed > _STILL_M_S:
        start, end = (tuple(int(v) for v in p) for p in ground.places(np.array([centre, centre + shown.velocity])))
        tip_length = min(0.4, 1.2 / speed)
        cv2.arrowedLine(panel, start, end, pen.colour, pen.thickness, cv2.LINE_AA, tipLength=tip_length)


def draw_line(image: UInt8Array, start: Float64Array, end: Float64Array, pen: Pen) -> None:
    """A smooth line between two places (2,) in pixels, which may lie outside."""
    ends = (np.clip(start, -_FARTHEST_PX, _FARTHEST_PX), np.clip(end, -_FARTHEST_PX, _FARTHEST_PX))
    for one, other in _dashes(*ends) if pen.dashed else [ends]:
        first, second = ((int(place[0]), int(place[1])) for place in (one * (1 << _SHIFT), other * (1 << _SHIFT)))
        cv2.line(image, first, second, pen.colour, pen.thickness, cv2.LINE_AA, _SHIFT)


def _dashes(start: Float64Array, end: Float64Array) -> list[tuple[Float64Array, Float64Array]]:
    length = float(np.hypot(*(end - start)))
    step = max(_DASH_PX + _SPACE_PX, length / _MOST_DASHES)
    count = int(length / step) + 1
    way = (end - start) / max(length, 1e-6)
    starts = [start + way * (number * step) for number in range(count)]
    return [(one, one + way * min(_DASH_PX, length - number * step)) for number, one in enumerate(starts)]


def _tint(panel: UInt8Array, outline: Float64Array, colour: Colour) -> None:
    """Mix `colour` into what lies inside the corners (4, 2)."""
    places = np.clip(outline, -_FARTHEST_PX, _FARTHEST_PX)
    low = np.maximum(np.floor(places.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(places.max(axis=0)) + 1, panel.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    part = panel[low[1] : high[1], low[0] : high[0]]
    filled = part.copy()
    cv2.fillConvexPoly(filled, np.round(places - low).astype(np.int32), colour)
    part[:] = cv2.addWeighted(filled, _FILL, part, 1 - _FILL, 0)


def _lines(projected: Float64Array, edges: list[tuple[int, int]]) -> list[tuple[Float64Array, Float64Array]]:
    """Ends (2,) in pixels of those `edges` between corners (8, 3), (u·d, v·d, d), that lie before the camera."""
    found = (_before_camera(projected[first], projected[second]) for first, second in edges)
    return [ends for ends in found if ends is not None]


def _before_camera(start: Float64Array, end: Float64Array) -> tuple[Float64Array, Float64Array] | None:
    """Pixels of the part of an edge, ends (u·d, v·d, d), that lies before the camera; None without one."""
    if max(start[2], end[2]) < _NEAR_M:
        return None
    ends = []
    for one, other in ((start, end), (end, start)):
        place = one
        if one[2] < _NEAR_M:
            place = one + (other - one) * ((_NEAR_M - one[2]) / (other[2] - one[2]))
        ends.append(place[:2] / place[2])
    return ends[0], ends[1]
