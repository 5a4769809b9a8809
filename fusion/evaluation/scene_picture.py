"""A scene as a person can judge it: its pictures with boxes in space, and the same boxes and points from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.box_drawing import Pen, ShownBox, draw_in_picture
from fusion.evaluation.caption import Caption, header
from fusion.evaluation.ground_view import WHOLE, PictureView, from_above, shades
from fusion.evaluation.legend import TRUTH, Key, draw_classes, draw_signs, draw_table
from fusion.evaluation.text_drawing import BACK, GREY, WHITE, Colour, draw_labels, draw_text, text_width
from fusion.preparation.boxes import box3d_of
from fusion.types import Float32Array, UInt8Array

WIDTH = 1280
"""Pixels of the whole picture."""
_COLUMNS, _GAP = 3, 4
_LEGEND = 232
_BESIDE, _WIDEST = 764, 2.2
"""A single picture no wider than this many times its height has so many columns, and the ground beside it."""
_STRIP = 160
_SMALL = 500
_NEAREST_M, _FARTHEST_M = 1.0, 60.0
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
    and its age in seconds. Of a camera that is not there (`absent`) only the size of `pixels` counts.
    """

    name: str
    pixels: UInt8Array
    image_from_ego: Float32Array
    age_s: float = 0.0
    absent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What is drawn into every part of the picture; `boxes` with their pens, in the order of drawing."""

    points: Float32Array
    boxes: Sequence[tuple[ShownBox, Pen]]
    view: PictureView
    key: Key


def scene_picture(
    shots: Sequence[Shot],
    points: Float32Array,
    truth: Sequence[ShownBox],
    found: Sequence[ShownBox],
    classes: Sequence[str],
    view: PictureView = WHOLE,
    caption: Caption | None = None,
) -> UInt8Array:
    """RGB (H, `WIDTH`, 3) uint8: the caption; pictures in rows of at most three, those to the front first and each row
    left to right; the ground around the ego frame with `points` (n, 3 or more) in metres; and what it all means.

    The ground is below the pictures, or beside a single one that is not too wide; there the boxes are listed below.
    Points are blue 1 m below the road to red 4 m above; in pictures red near to blue far. Boxes of
    `truth` are thin, grey and dashed, `found` ones in their class's colour and named in the pictures, those asked
    for on white; labels beyond `classes` are grey. Arrows are the way of one second. A camera that is absent shows
    points and boxes on black. Everything may be empty.
    """
    colours = class_colours(classes)
    beside = len(shots) == 1 and shots[0].pixels.shape[1] <= _WIDEST * shots[0].pixels.shape[0]
    ground = view.ground(WIDTH - (_BESIDE if beside else _LEGEND) - _GAP)
    key = Key(colours, found, truth, bool(len(points)), ground.pixels_a_metre)
    farthest_first = sorted(found, key=lambda one: (one.asked, -np.hypot(one.box.x, one.box.y)))
    boxes = [(shown, Pen(colours.get(shown.label, GREY))) for shown in farthest_first]
    drawn = _Drawn(points, [*((shown, TRUTH) for shown in truth), *boxes], view, key)
    panel = from_above(ground, points, view.road_m, drawn.boxes)
    body = _side_by_side(shots[0], panel, drawn) if beside else _below_each_other(shots, panel, drawn)
    return np.concatenate([header(caption or Caption(), WIDTH), *body]).astype(np.uint8, copy=False)


def frame_shots(
    frame: Mapping[str, NDArray[Any]], cameras: Sequence[str], looks: Mapping[str, Float32Array] | None = None
) -> list[Shot]:
    """The pictures of a training frame, without batch axis, whose `cameras` are in this order.

    A camera that is not there is left out, or shown as absent where `looks` tells its `image_from_ego` (3, 4).
    """
    shots = []
    for row, name in enumerate(cameras):
        pixels = frame["images"][row].transpose(1, 2, 0)
        if frame["camera_available"][row]:
            shots.append(Shot(name, pixels, frame["image_from_ego"][row], float(frame["camera_age"][row])))
        elif looks and name in looks:
            shots.append(Shot(name, pixels, looks[name], absent=True))
    return shots


def frame_truth(frame: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> list[ShownBox]:
    """The truth of a training frame, without batch axis."""
    return [
        ShownBox(
            box3d_of(frame["truth_box3d"][row]),
            classes[frame["truth_label"][row]],
            velocity=tuple(frame["truth_velocity"][row].tolist()) if frame["truth_has_velocity"][row] else None,
        )
        for row in np.flatnonzero(frame["truth_label"] >= 0)
    ]


def class_colours(classes: Sequence[str]) -> dict[str, Colour]:
    """RGB of each class; they repeat after ten."""
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(classes)}


def _below_each_other(shots: Sequence[Shot], panel: UInt8Array, drawn: _Drawn) -> list[UInt8Array]:
    rows = [_row(row, columns, drawn) for row, columns in _arranged(shots)]
    below = np.full((panel.shape[0], WIDTH, 3), BACK, np.uint8)
    below[:, : panel.shape[1]] = panel
    left = panel.shape[1] + _GAP + 12
    draw_signs(below, left, draw_classes(below, left, 12, drawn.key) + 16, drawn.key)
    return [*rows, below]


def _side_by_side(shot: Shot, panel: UInt8Array, drawn: _Drawn) -> list[UInt8Array]:
    picture = _shot(shot, _BESIDE, drawn)
    upper = np.full((max(len(picture), len(panel)) + _GAP, WIDTH, 3), BACK, np.uint8)
    upper[: len(picture), :_BESIDE] = picture
    upper[: len(panel), _BESIDE + _GAP :] = panel
    lower = np.full((max(_STRIP, 20 * len(drawn.key.colours) + 16), WIDTH, 3), BACK, np.uint8)
    draw_table(lower[:, : _BESIDE + 40], 10, drawn.key)
    draw_classes(lower, _BESIDE + 60, 6, drawn.key)
    draw_signs(lower, _BESIDE + 250, 6, drawn.key)
    return [upper, lower]


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
    canvas = np.full((max(len(one) for one in pictures) + _GAP, WIDTH, 3), BACK, np.uint8)
    for place, one in enumerate(pictures):
        left = place * (width + _GAP)
        canvas[: len(one), left : left + width] = one
    return canvas


def _shot(shot: Shot, width: int, drawn: _Drawn) -> UInt8Array:
    height = max(1, round(shot.pixels.shape[0] * width / shot.pixels.shape[1]))
    picture = np.zeros((height, width, 3), np.uint8) if shot.absent else _scaled(shot.pixels, width, height)
    if drawn.view.dotted or shot.absent:
        _dot(picture, shot.image_from_ego, drawn.points)
    labels = []
    for shown, pen in drawn.boxes:
        corner = draw_in_picture(picture, shot.image_from_ego, shown.box, pen, halo=shown.asked)
        if corner is not None and shown.score is not None:
            labels.append((corner, shown.text, WHITE if shown.asked else pen.colour))
    draw_labels(picture, labels[::-1], 0.36 if width < _SMALL else 0.45)  # those asked for, then the nearest first
    told = f"{shot.name}: absent" if shot.absent else f"{shot.name}  {shot.age_s * 1e3:.0f} ms"
    draw_text(picture, told, (6, height - 7), WHITE)
    if shot.absent:
        draw_labels(picture, [(((width - text_width("no picture", 0.6)) // 2, 30), "no picture", WHITE)], 0.6)
    return picture


def _scaled(pixels: UInt8Array, width: int, height: int) -> UInt8Array:
    method = cv2.INTER_AREA if width < pixels.shape[1] else cv2.INTER_CUBIC
    return np.array(cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method), np.uint8)


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
    colours = shades(share)
    for across, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        rows, columns = (places[order, 1] + down).clip(0, height - 1), (places[order, 0] + across).clip(0, width - 1)
        picture[rows, columns] = colours
