"""Which cells of the neck maps are worth sending about one item."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from fusion.codec.profile import Profile
from fusion.types import BoolArray, Box2D, CellWindow, Float32Array

CELLS_PER_LEVEL = 320
"""The most cells of one level an item opens; a larger object is told by its coarser levels instead."""
MAX_WINDOW_CELLS = 1 << 16
"""The most cells, open or not, that the windows of an item span together."""
MIN_SIDE = 48.0
"""Pixels: a box smaller than this is sent with its surroundings, since what it stands on tells what it is."""
SCORE_FLOOR = 0.02
"""A cell of the margin opens when the detector's best class score in or next to it reaches this."""


def item_gate(
    profile: Profile, box: Box2D, cell_scores: Sequence[Float32Array] | None, margin: float = 0.2
) -> tuple[tuple[CellWindow, ...], list[BoolArray]]:
    """The windows around `box` (pixels of the model's input image), one a level, and which of their cells are open.

    A window spans the box, at least `MIN_SIDE` a side, grown by `margin` of its size each way. Cells the box
    touches are open; cells of the margin are open where `cell_scores` (best class score, (h, w) a level) says
    something is there, or everywhere when it is None. Over `CELLS_PER_LEVEL`, those with the best scores in
    their neighbourhood stay, nearest to the centre first among equals. Windows of more than `MAX_WINDOW_CELLS` together
    shrink to their open cells, and where those lie too far apart, to the place that has most of them.
    """
    core = _at_least(box, MIN_SIDE)
    dx, dy = margin * (core.x2 - core.x1), margin * (core.y2 - core.y1)
    outer = Box2D(core.x1 - dx, core.y1 - dy, core.x2 + dx, core.y2 + dy)
    found = []
    for index, level in enumerate(profile.levels):
        height, width = profile.map_size(index)
        window = _cells(outer, level.stride, width, height)
        scores = _neighbourhood(cell_scores[index], window) if cell_scores is not None else None
        if scores is None:
            gate = np.ones((window.height, window.width), np.bool_)
        else:
            gate = scores >= SCORE_FLOOR
            kernel = _cells(core, level.stride, width, height)
            top, left = kernel.y - window.y, kernel.x - window.x
            gate[top : top + kernel.height, left : left + kernel.width] = True
        cap = partial(_cap, scores=scores, core=core, window=window, stride=level.stride)
        found.append(_Opened(window, gate, cap(gate), cap))
    if sum(level.window.cells for level in found) > MAX_WINDOW_CELLS:
        found = _shrunk(found)
    return tuple(level.window for level in found), [level.gate for level in found]


class _Opened(NamedTuple):
    """A level's window, the cells (height, width) that may open, those of them that do, and what picks these."""

    window: CellWindow
    wide: BoolArray
    gate: BoolArray
    cap: Callable[[BoolArray], BoolArray]


def _shrunk(levels: Sequence[_Opened]) -> list[_Opened]:
    """The levels with windows of at most `MAX_WINDOW_CELLS` together; small ones leave their room to large ones."""
    shrunk, left = list(levels), MAX_WINDOW_CELLS
    parts = [_bounds(level.gate) for level in levels]
    for done, index in enumerate(sorted(range(len(levels)), key=lambda index: parts[index].cells)):
        window, wide, gate, cap = levels[index]
        part, room = parts[index], left // (len(levels) - done)
        if part.cells > room:
            part = _densest(gate, part, room)
            inside = np.zeros_like(wide)
            inside[_slices(part)] = True
            gate = cap(wide & inside)
        left -= part.cells
        window = CellWindow(window.x + part.x, window.y + part.y, part.width, part.height)
        shrunk[index] = _Opened(window, wide[_slices(part)], gate[_slices(part)], cap)
    return shrunk


def _bounds(gate: BoolArray) -> CellWindow:
    """The part of the window that holds every open cell."""
    rows, columns = np.flatnonzero(gate.any(1)), np.flatnonzero(gate.any(0))
    if not len(rows):
        return CellWindow(0, 0, 0, 0)
    x, y = int(columns[0]), int(rows[0])
    return CellWindow(x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y)


def _densest(gate: BoolArray, part: CellWindow, room: int) -> CellWindow:
    """Of `part`, as much as `room` cells allow, where most cells are open; the topmost of equals."""
    width = max(1, int(part.width * math.sqrt(room / part.cells)))
    height = max(1, min(part.height, room // width))
    width = min(part.width, room // height)
    sums = cv2.integral(gate[_slices(part)].astype(np.uint8))
    counts = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = np.unravel_index(int(counts.argmax()), counts.shape)
    return CellWindow(part.x + int(x), part.y + int(y), width, height)


def _slices(part: CellWindow) -> tuple[slice, slice]:
    return slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)


def _at_least(box: Box2D, side: float) -> Box2D:
    """`box` with each side grown about its centre to at least `side`."""
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    half_width, half_height = max(box.x2 - box.x1, side) / 2, max(box.y2 - box.y1, side) / 2
    return Box2D(x - half_width, y - half_height, x + half_width, y + half_height)


def _cells(area: Box2D, stride: int, width: int, height: int) -> CellWindow:
    """The cells of a `width` x `height` map that `area` (pixels) touches; none when it lies outside."""
    left, top = max(0, math.floor(area.x1 / stride)), max(0, math.floor(area.y1 / stride))
    right, bottom = min(width, math.ceil(area.x2 / stride)), min(height, math.ceil(area.y2 / stride))
    if right <= left or bottom <= top:
        return CellWindow(0, 0, 0, 0)
    return CellWindow(left, top, right - left, bottom - top)


def _neighbourhood(scores: Float32Array, window: CellWindow) -> Float32Array:
    """The best score in each window cell's 3x3 neighbourhood, (height, width)."""
    if not window.cells:
        return np.zeros((window.height, window.width), np.float32)
    top, left = max(0, window.y - 1), max(0, window.x - 1)
    around = scores[top : window.y + window.height + 1, left : window.x + window.width + 1]
    grown = cv2.dilate(np.ascontiguousarray(around, np.float32), np.ones((3, 3), np.uint8))
    y, x = window.y - top, window.x - left
    return np.asarray(grown[y : y + window.height, x : x + window.width], np.float32)


def _cap(gate: BoolArray, scores: Float32Array | None, core: Box2D, window: CellWindow, stride: int) -> BoolArray:
    """`gate` with at most `CELLS_PER_LEVEL` open cells."""
    if np.count_nonzero(gate) <= CELLS_PER_LEVEL:
        return gate
    ys, xs = np.nonzero(gate)
    centre_x, centre_y = (core.x1 + core.x2) / 2 / stride - 0.5, (core.y1 + core.y2) / 2 / stride - 0.5
    distance = (xs + window.x - centre_x) ** 2 + (ys + window.y - centre_y) ** 2
    rank = -scores[ys, xs] if scores is not None else np.zeros(len(ys), np.float32)
    kept = np.lexsort((distance, rank))[:CELLS_PER_LEVEL]
    capped = np.zeros_like(gate)
    capped[ys[kept], xs[kept]] = True
    return capped
