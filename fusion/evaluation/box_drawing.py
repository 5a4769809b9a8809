"""Boxes in space drawn into a picture and onto the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fusion.geometry import rotation_z
from fusion.types import Box2D, Box3D, Float32Array, Float64Array, UInt8Array

THIN, THICK = 1, 2
FONT = cv2.FONT_HERSHEY_SIMPLEX
_NEAR_M = 0.2
_TEXT = 0.4
_SHIFT = 4
"""Lines are placed to a sixteenth of a pixel."""
_FARTHEST_PX = 8000.0
_CORNERS = np.array([[x, y, z] for x in (0.5, -0.5) for y in (0.5, -0.5) for z in (-0.5, 0.5)])
"""In units of length, width and height; the first four are the front's."""
_EDGES = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)]
_FRONT = [(0, 3), (1, 2)]
_ROOF = (1, 3, 5, 7)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ShownBox:
    """A box in the ego frame with what is said of it: `score` 0..1, `velocity` m/s along the ego frame's x and y."""

    box: Box3D
    label: str
    score: float | None = None
    velocity: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """Label and score."""
        return self.label if self.score is None else f"{self.label} {self.score:.2f}"


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
    picture: UInt8Array, image_from_ego: Float32Array, box: Box3D, colour: Colour, thickness: int
) -> tuple[int, int] | None:
    """Draw the edges of a box, crossed on its front, into `picture` (H, W, 3).

    `image_from_ego` (3, 4) as in `Surround`. What lies behind the camera is cut off. Returns the upper left corner of
    what is seen, in pixels; None when nothing is.
    """
    height, width = picture.shape[:2]
    points = corners(box)
    projected = (image_from_ego[:, :3] @ points.T + image_from_ego[:, 3:]).T * [width, height, 1.0]  # (8, 3)
    drawn: list[Float64Array] = []
    for edges, thick in ((_EDGES, thickness), (_FRONT, THIN)):
        for first, second in edges:
            ends = _before_camera(projected[first], projected[second])
            if ends is not None:
                draw_line(picture, *ends, colour, thick)
                drawn += ends
    if not drawn:
        return None
    left, top = np.min(drawn, axis=0)
    right, bottom = np.max(drawn, axis=0)
    if left >= width or top >= height or right < 0 or bottom < 0:
        return None
    return max(0, int(left)), max(0, int(top))


def draw_labels(picture: UInt8Array, labels: Sequence[tuple[tuple[int, int], str, Colour]]) -> None:
    """Write each text above its place; one that would cover one before it is left out."""
    taken: list[Box2D] = []
    for (left, top), text, colour in labels:
        (width, height), below = cv2.getTextSize(text, FONT, _TEXT, 1)
        x, y = min(left, max(0, picture.shape[1] - width)), max(height + 1, top - below)
        place = Box2D(x, y - height, x + width, y + below)
        if all(place.iou(other) == 0 for other in taken):
            draw_text(picture, text, (x, y), colour)
            taken.append(place)


def draw_on_ground(panel: UInt8Array, ground: Ground, shown: ShownBox, colour: Colour, thickness: int) -> None:
    """Draw a box from above, with a line from its centre over its front and an arrow of one second's way."""
    box = shown.box
    outline = ground.places(corners(box)[list(_ROOF)])[[0, 1, 3, 2]]
    for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        draw_line(panel, start, end, colour, thickness)
    forward = np.array([np.cos(box.yaw), np.sin(box.yaw)])
    centre = np.array([box.x, box.y])
    tip = centre + forward * (box.length / 2 + 0.6)
    middle, nose = ground.places(np.array([centre, tip]))
    draw_line(panel, middle, nose, colour, thickness)
    speed = float(np.hypot(*shown.velocity)) if shown.velocity else 0.0
    if shown.velocity and np.isfinite(speed) and speed > 0.2:
        start, end = (tuple(int(v) for v in p) for p in ground.places(np.array([centre, centre + shown.velocity])))
        cv2.arrowedLine(panel, start, end, colour, thickness, cv2.LINE_AA, tipLength=min(0.4, 1.2 / speed))


def draw_line(image: UInt8Array, start: Float64Array, end: Float64Array, colour: Colour, thickness: int) -> None:
    """A smooth line between two places (2,) in pixels, which may lie outside."""
    ends = [np.clip(place, -_FARTHEST_PX, _FARTHEST_PX) * (1 << _SHIFT) for place in (start, end)]
    first, second = ((int(place[0]), int(place[1])) for place in ends)
    cv2.line(image, first, second, colour, thickness, cv2.LINE_AA, _SHIFT)


def draw_text(image: UInt8Array, text: str, place: tuple[int, int], colour: Colour, scale: float = _TEXT) -> None:
    """`text` with its lower left corner at `place`, on a dark edge so that it can be read anywhere."""
    for across, down in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(image, text, (place[0] + across, place[1] + down), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(image, text, place, FONT, scale, colour, 1, cv2.LINE_AA)


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
