"""What is written beside a scene's pictures: what colours and lines mean, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fusion.evaluation.box_drawing import THICK, THIN, Pen, ShownBox, draw_line
from fusion.evaluation.ground_view import HIGH_M, LOW_M, shades
from fusion.evaluation.text_drawing import BACK, GREY, WHITE, Colour, draw_text
from fusion.types import UInt8Array

TRUTH = Pen((205, 205, 205), THIN, dashed=True)
"""How truth is drawn."""
_SAMPLE, _HALO = Pen(GREY, THICK), Pen(WHITE, THICK + 4)
_ROW_PX, _SIGN_PX = 20, 22
_SIGN = np.array([[0.0, 4.0], [24.0, 4.0], [24.0, 15.0], [0.0, 15.0]])
_SCALES_M = (0.5, 1, 2, 5, 10, 20, 50)
_SCALE_PX = 150
_BAR = (120, 10)


@dataclass(frozen=True, slots=True)
class Key:
    """What is drawn: colours by class, boxes, whether points are, and pixels a metre of the ground."""

    colours: Mapping[str, Colour]
    found: Sequence[ShownBox] = ()
    truth: Sequence[ShownBox] = ()
    points: bool = False
    pixels_a_metre: float = 10.0


def draw_classes(panel: UInt8Array, left: int, top: int, key: Key) -> int:
    """Each class with its colour and how many were found; returns where it ends."""
    counts = Counter(shown.label for shown in key.found)
    for name, colour in key.colours.items():
        cv2.rectangle(panel, (left, top + 3), (left + 12, top + 14), colour, -1)
        text, shade = (f"{name}  {counts[name]}", WHITE) if counts[name] else (name, GREY)
        draw_text(panel, text, (left + 20, top + 14), shade)
        top += _ROW_PX
    return top


def draw_signs(panel: UInt8Array, left: int, top: int, key: Key) -> int:
    """What the lines mean that are in the picture, what points' colours mean, and a scale; returns where it ends."""
    if key.found:
        top = _box_sign(panel, left, top, "found", _SAMPLE)
    if any(shown.asked for shown in key.found):
        top = _box_sign(panel, left, top, "asked for", _HALO, _SAMPLE)
    if key.truth:
        top = _box_sign(panel, left, top, f"truth  {len(key.truth)}", TRUTH)
    if any(shown.velocity for shown in (*key.found, *key.truth)):
        cv2.arrowedLine(panel, (left, top + 10), (left + 24, top + 10), GREY, 2, cv2.LINE_AA, tipLength=0.3)
        top = _named(panel, left, top, "way of 1 s")
    if key.points:
        panel[top + 4 : top + 4 + _BAR[1], left : left + _BAR[0]] = shades(np.linspace(0, 1, _BAR[0]))
        draw_text(panel, f"LiDAR, z {LOW_M:g} to {HIGH_M:g} m", (left, top + 30), WHITE, 0.4)
        top += 2 * _SIGN_PX
    return _scale(panel, left, top, key.pixels_a_metre)


def draw_table(panel: UInt8Array, left: int, key: Key, columns: int = 2) -> None:
    """One line for each box that was found, nearest first, in columns of `panel`; the last says how many are left."""
    nearest = sorted(key.found, key=lambda one: np.hypot(one.box.x, one.box.y))
    rows = max(1, (panel.shape[0] - 8) // _ROW_PX)
    shown = nearest if len(nearest) <= rows * columns else nearest[: rows * columns - 1]
    width = (panel.shape[1] - left) // columns
    lines = [
        (one.text, f"{np.hypot(one.box.x, one.box.y):.1f} m", one.asked, key.colours.get(one.label, GREY))
        for one in shown
    ]
    if len(shown) < len(nearest):
        lines.append((f"and {len(nearest) - len(shown)} farther away", "", False, BACK))
    for number, (text, distance, asked, colour) in enumerate(lines):
        x, y = left + number // rows * width, 8 + number % rows * _ROW_PX
        cv2.rectangle(panel, (x, y), (x + 12, y + 11), colour, -1)
        draw_text(panel, text, (x + 20, y + 11), WHITE)
        draw_text(panel, distance, (x + 230, y + 11), GREY)
        if asked:
            draw_text(panel, "asked for", (x + 290, y + 11), WHITE)


def _box_sign(panel: UInt8Array, left: int, top: int, text: str, *pens: Pen) -> int:
    corners = np.array([left, top]) + _SIGN
    for pen in pens:
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            draw_line(panel, start, end, pen)
    return _named(panel, left, top, text)


def _scale(panel: UInt8Array, left: int, top: int, pixels_a_metre: float) -> int:
    metres = max((m for m in _SCALES_M if m * pixels_a_metre <= _SCALE_PX), default=_SCALES_M[0])
    end = left + round(metres * pixels_a_metre)
    cv2.line(panel, (left, top + 8), (end, top + 8), WHITE, THIN)
    for x in (left, end):
        cv2.line(panel, (x, top + 4), (x, top + 12), WHITE, THIN)
    draw_text(panel, f"{metres:g} m", (end + 8, top + 13), WHITE)
    return top + _SIGN_PX


def _named(panel: UInt8Array, left: int, top: int, text: str) -> int:
    draw_text(panel, text, (left + 34, top + 14), WHITE)
    return top + _SIGN_PX
