"""A frame as a person can judge it: its pictures with boxes in space, and the same boxes and points from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.box_drawing import (
    THICK,
    THIN,
    Colour,
    Ground,
    ShownBox,
    draw_in_picture,
    draw_labels,
    draw_line,
    draw_on_ground,
    draw_text,
)
from fusion.preparation.boxes import box3d_of
from fusion.types import Float32Array, UInt8Array

WIDTH = 1280
"""Pixels of the whole picture."""
_COLUMNS, _GAP = 3, 4
_LEGEND = 200
_GREY: Colour = (170, 170, 170)
_WHITE: Colour = (235, 235, 235)
_BACK: Colour = (18, 20, 24)
_RING_M = 10
_SCALES_M = (0.5, 1, 2, 5, 10, 20, 50)
_LOW_M, _HIGH_M = -1.0, 4.0
_NEAREST_M, _FARTHEST_M = 1.0, 60.0
_DARK = 22
_COLOURS: tuple[Colour, ...] = (
    (255, 158, 66),
    (86, 204, 242),
    (242, 96, 119),
    (160, 140, 255),
    (240, 228, 90),
    (120, 220, 120),
    (255, 140, 220),
    (70, 200, 180),
    (255, 100, 50),
    (190, 200, 215),
)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One camera's picture: `pixels` (H, W, 3) uint8 RGB without distortion, `image_from_ego` (3, 4) as in `Surround`,
    and its age in seconds.
    """

    name: str
    pixels: UInt8Array
    image_from_ego: Float32Array
    age_s: float = 0.0


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


WHOLE = PictureView()


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What is drawn into every part of the picture."""

    points: Float32Array
    truth: Sequence[ShownBox]
    found: Sequence[ShownBox]
    colours: Mapping[str, Colour]
    view: PictureView

    @property
    def boxes(self) -> tuple[tuple[Sequence[ShownBox], int], ...]:
        """Boxes with their thickness, in the order of drawing."""
        return (self.truth, THIN), (self.found, THICK)


def scene_picture(
    shots: Sequence[Shot],
    points: Float32Array,
    truth: Sequence[ShownBox],
    found: Sequence[ShownBox],
    classes: Sequence[str],
    view: PictureView = WHOLE,
) -> UInt8Array:
    """RGB (H, `WIDTH`, 3) uint8: pictures in rows of at most three, those to the front first and each row left to
    right; below, the ground around the ego frame with `points` (n, 3 or more) in metres.

    Points are blue 1 m below the road to red 4 m above; in pictures red near to blue far. Boxes of
    `truth` are thin, `found` ones thick and named in the pictures; each of `classes` has a colour, other labels are
    grey. Arrows are the way of one second. Everything may be empty.
    """
    colours = class_colours(classes)
    drawn = _Drawn(points, truth, found, colours, view)
    rows = [_row(row, columns, drawn) for row, columns in _arranged(shots)]
    scale = (WIDTH - _LEGEND - _GAP) / (2 * view.side_m)
    panel = _from_above(Ground(view.ahead_m, view.behind_m, view.side_m, scale), drawn)
    below = np.full((panel.shape[0], WIDTH, 3), _BACK, np.uint8)
    below[:, : panel.shape[1]] = panel
    _legend(below, panel.shape[1] + _GAP + 12, colours, scale)
    return np.concatenate([*rows, below]).astype(np.uint8, copy=False)


def frame_picture(
    frame: Mapping[str, NDArray[Any]],
    cameras: Sequence[str],
    classes: Sequence[str],
    found: Sequence[ShownBox] = (),
    view: PictureView = WHOLE,
) -> UInt8Array:
    """`scene_picture` of a training frame, without batch axis, whose `cameras` are in this order."""
    shots = [
        Shot(
            name, frame["images"][row].transpose(1, 2, 0), frame["image_from_ego"][row], float(frame["camera_age"][row])
        )
        for row, name in enumerate(cameras)
        if frame["camera_available"][row]
    ]
    truth = [
        ShownBox(
            box3d_of(frame["truth_box3d"][row]),
            classes[frame["truth_label"][row]],
            velocity=tuple(frame["truth_velocity"][row].tolist()) if frame["truth_has_velocity"][row] else None,
        )
        for row in np.flatnonzero(frame["truth_label"] >= 0)
    ]
    return scene_picture(shots, frame["points"][frame["points_valid"]], truth, found, classes, view)


def class_colours(classes: Sequence[str]) -> dict[str, Colour]:
    """RGB of each class; they repeat after ten."""
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(classes)}


def _arranged(shots: Sequence[Shot]) -> list[tuple[list[Shot], int]]:
    """Rows of pictures with how many share the width: those that look to the front first, each row left to right."""

    def look(shot: Shot) -> tuple[float, float]:
        axis = shot.image_from_ego[2, :2] / max(1e-6, float(np.linalg.norm(shot.image_from_ego[2, :2])))
        return float(axis[0]), float(axis[1])

    ahead_first = sorted(shots, key=lambda shot: -look(shot)[0])
    columns = min(_COLUMNS, max(1, len(shots)))
    rows = [ahead_first[start : start + columns] for start in range(0, len(shots), columns)]
    return [(sorted(row, key=lambda shot: -look(shot)[1]), columns) for row in rows]


def _row(row: Sequence[Shot], columns: int, drawn: _Drawn) -> UInt8Array:
    width = (WIDTH - _GAP * (columns - 1)) // columns
    pictures = [_shot(shot, width, drawn) for shot in row]
    canvas = np.full((max(len(one) for one in pictures) + _GAP, WIDTH, 3), _BACK, np.uint8)
    for place, one in enumerate(pictures):
        left = place * (width + _GAP)
        canvas[: len(one), left : left + width] = one
    return canvas


def _shot(shot: Shot, width: int, drawn: _Drawn) -> UInt8Array:
    height = max(1, round(shot.pixels.shape[0] * width / shot.pixels.shape[1]))
    smaller = width < shot.pixels.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    picture = np.array(cv2.resize(np.ascontiguousarray(shot.pixels), (width, height), interpolation=method), np.uint8)
    if drawn.view.dotted:
        _dot(picture, shot.image_from_ego, drawn.points)
    labels = []
    for boxes, thickness in drawn.boxes:
        for shown in sorted(boxes, key=lambda one: -np.hypot(one.box.x, one.box.y)):
            colour = drawn.colours.get(shown.label, _GREY)
            corner = draw_in_picture(picture, shot.image_from_ego, shown.box, colour, thickness)
            if corner is not None and shown.score is not None:
                labels.append((corner, shown.text, colour))
    draw_labels(picture, labels[::-1])  # the nearest first
    draw_text(picture, f"{shot.name}  {shot.age_s * 1e3:.0f} ms", (6, height - 7), _WHITE)
    return picture


def _dot(picture: UInt8Array, image_from_ego: Float32Array, points: Float32Array) -> None:
    """Points (n, 3 or more) in a picture, red near to blue far; the nearest of a pixel is seen."""
    height, width = picture.shape[:2]
    projected = points[:, :3].astype(np.float64) @ image_from_ego[:, :3].T + image_from_ego[:, 3]
    projected = projected[projected[:, 2] > _NEAREST_M]
    places = np.floor(projected[:, :2] / projected[:, 2:] * [width, height])
    inside = ((places >= 0) & (places < [width, height])).all(axis=1)
    places, depth = places[inside].astype(np.int64), projected[inside, 2]
    order = np.argsort(-depth, kind="stable")
    share = 1 - np.log(depth[order].clip(_NEAREST_M, _FARTHEST_M) / _NEAREST_M) / np.log(_FARTHEST_M / _NEAREST_M)
    shades = _shades(share)
    for across, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        rows, columns = (places[order, 1] + down).clip(0, height - 1), (places[order, 0] + across).clip(0, width - 1)
        picture[rows, columns] = shades


def _from_above(ground: Ground, drawn: _Drawn) -> UInt8Array:
    width, height = ground.size
    panel = np.full((height, width, 3), _BACK, np.uint8)
    middle = ground.places(np.zeros((1, 2)))[0]
    for metres in range(_RING_M, int(np.hypot(ground.side_m, max(ground.ahead_m, ground.behind_m))) + 1, _RING_M):
        centre, radius = (int(middle[0]), int(middle[1])), round(metres * ground.pixels_a_metre)
        cv2.circle(panel, centre, radius, (44, 47, 54), 1, cv2.LINE_AA)
        draw_text(panel, f"{metres}", (centre[0] + 3, centre[1] - radius - 3), (90, 94, 104), 0.35)
    _draw_points(panel, ground, drawn)
    for boxes, thickness in drawn.boxes:
        for shown in boxes:
            draw_on_ground(panel, ground, shown, drawn.colours.get(shown.label, _GREY), thickness)
    for tip in ([1.5, 0.0], [0.0, 1.0]):
        draw_line(panel, middle, ground.places(np.array([tip]))[0], _WHITE, THICK)
    return panel


def _draw_points(panel: UInt8Array, ground: Ground, drawn: _Drawn) -> None:
    """The highest point of a pixel is seen."""
    places = np.floor(ground.places(drawn.points[:, :2].astype(np.float64))).astype(np.int64)
    height, width = panel.shape[:2]
    inside = ((places >= 0) & (places < [width, height])).all(axis=1)
    places, z = places[inside], drawn.points[inside, 2] - drawn.view.road_m
    order = np.argsort(z, kind="stable")
    panel[places[order, 1], places[order, 0]] = _shades((z[order] - _LOW_M) / (_HIGH_M - _LOW_M))


def _shades(share: NDArray[np.floating[Any]]) -> UInt8Array:
    """RGB (n, 3) of shares (n,), blue at 0 to red at 1, without the dark ends of the scale."""
    if not share.size:
        return np.zeros((0, 3), np.uint8)
    levels = (_DARK + np.clip(share, 0, 1) * (255 - 2 * _DARK)).astype(np.uint8)[:, None]
    shades = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return np.asarray(shades, np.uint8)


def _legend(panel: UInt8Array, left: int, colours: Mapping[str, Colour], pixels_a_metre: float) -> None:
    """Colours, what thin and thick mean, and a scale, to the right of `left`."""
    top = 26
    for name, colour in colours.items():
        cv2.rectangle(panel, (left, top - 9), (left + 12, top + 2), colour, -1)
        draw_text(panel, name, (left + 20, top + 1), _WHITE)
        top += 20
    for text, thickness in (("truth", THIN), ("found", THICK)) if colours else ():
        cv2.rectangle(panel, (left, top), (left + 24, top + 12), _GREY, thickness, cv2.LINE_AA)
        draw_text(panel, text, (left + 32, top + 11), _WHITE)
        top += 22
    if colours:
        cv2.arrowedLine(panel, (left, top + 6), (left + 24, top + 6), _GREY, THIN, cv2.LINE_AA, tipLength=0.3)
        draw_text(panel, "way of 1 s", (left + 32, top + 10), _WHITE)
        top += 34
    metres = max((m for m in _SCALES_M if m * pixels_a_metre <= _LEGEND - 30), default=_SCALES_M[0])
    cv2.line(panel, (left, top), (left + round(metres * pixels_a_metre), top), _WHITE, THICK)
    draw_text(panel, f"{metres:g} m", (left, top + 18), _WHITE)
