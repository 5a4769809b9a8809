"""What is written above a scene's pictures: where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fusion.evaluation.text_drawing import BACK, GREY, WHITE, Colour, draw_text, text_width
from fusion.types import UInt8Array

_THERE: Colour = (96, 211, 120)
_GONE: Colour = (240, 96, 96)
_TITLE, _LINE_PX, _TITLE_PX = 0.6, 22, 26
_LEFT = 10


@dataclass(frozen=True, slots=True)
class SensorNote:
    """One sensor in a few words, and whether the answer was made from it."""

    text: str
    there: bool


@dataclass(frozen=True, slots=True)
class Caption:
    """What is told above the pictures: a title, the sensors, further lines."""

    title: str = ""
    sensors: Sequence[SensorNote] = ()
    lines: Sequence[str] = ()


def header(caption: Caption, width: int) -> UInt8Array:
    """The strip (H, width, 3) above the pictures; without rows for an empty caption."""
    rows = _rows(caption.sensors, width)
    height = _TITLE_PX * bool(caption.title) + _LINE_PX * (len(rows) + len(caption.lines))
    strip = np.full((height + 8 if height else 0, width, 3), BACK, np.uint8)
    top = 0
    if caption.title:
        draw_text(strip, caption.title, (_LEFT, 21), WHITE, _TITLE)
        top = _TITLE_PX
    for row in rows:
        for note, left in row:
            colour = _THERE if note.there else _GONE
            cv2.circle(strip, (left + 5, top + 12), 5, colour, -1 if note.there else 2, cv2.LINE_AA)
            draw_text(strip, note.text, (left + 16, top + 17), WHITE if note.there else GREY)
        top += _LINE_PX
    for line in caption.lines:
        draw_text(strip, line, (_LEFT, top + 17), WHITE)
        top += _LINE_PX
    return strip


def _rows(sensors: Sequence[SensorNote], width: int) -> list[list[tuple[SensorNote, int]]]:
    """The notes with their left edges, as many in a row as fit."""
    rows: list[list[tuple[SensorNote, int]]] = []
    left = width
    for note in sensors:
        needed = 16 + text_width(note.text) + 22
        if left + needed > width:
            rows.append([])
            left = _LEFT
        rows[-1].append((note, left))
        left += needed
    return rows
