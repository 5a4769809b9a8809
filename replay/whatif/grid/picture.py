"""The Pareto picture: misses over bytes, reviews as the size of a point, and what nothing beats joined by a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise

from markupsafe import Markup

from replay.report.axes import Axis, spanning
from replay.report.plots import rule, svg, text
from replay.report.wording import count, share, size, tick_size
from replay.whatif.grid.labels import FAR, Rect, Spot, place
from replay.whatif.grid.records import Grid, GridRow
from replay.whatif.grid.wording import interval
from replay.whatif.pareto import front

WIDTH, HEIGHT = 920.0, 480.0
_FRAME = Rect(64.0, 44.0, WIDTH - 24.0, HEIGHT - 52.0)
_SMALLEST, _LARGEST = 4.0, 17.0
TITLE = "defects missed over bytes sent"
NOTHING = "No defect is known in these recordings, so none can be missed."
_SPREAD = 12.0
"""Bytes that differ by more than this factor get a logarithmic axis."""


def picture(grid: Grid) -> Markup:
    """The drawing for a page that has the style sheet of grids; a note where no defect is known."""
    rows = _known(grid)
    if not rows:
        return Markup('<p class="none">{}</p>').format(NOTHING)
    return svg(WIDTH, HEIGHT, TITLE, *_parts(grid, rows))


def drawing(grid: Grid) -> str:
    """The same as a file of its own, in colours for a white page."""
    style = resources.files("replay").joinpath("whatif", "grid", "templates", "drawing.css").read_text("utf-8")
    rows = _known(grid)
    parts = _parts(grid, rows) if rows else [text(WIDTH / 2, HEIGHT / 2, NOTHING, "label", "middle")]
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" class="plot" width="{0}" height="{1}" viewBox="0 0 {0} {1}">'
            "<title>{2}</title><style>{3}</style>{4}</svg>\n"
        ).format(round(WIDTH), round(HEIGHT), TITLE, style, Markup("").join(parts))
    )


def _known(grid: Grid) -> list[GridRow]:
    return [row for row in grid.rows if row.missed]


def _parts(grid: Grid, rows: Sequence[GridRow]) -> list[Markup]:
    x, y = _axes(rows)
    radius = _Radius(max(row.number("reviews") or 0.0 for row in rows))
    order = sorted(rows, key=lambda row: (not row.best, row is not grid.base))
    spots = [Spot(x.at(_bytes(row)), y.at(_missed(row)), radius.of(row), row.name) for row in order]
    dots = [_dot(row, spot, base=row is grid.base) for row, spot in zip(order, spots, strict=True)]
    corners = _stairs(rows, x, y)
    places = place(spots, _FRAME, _segments(corners))
    names = [_name(row, spot, where) for row, spot, where in zip(order, spots, places, strict=True)]
    return [*_grid_lines(x, y), _line(corners), *reversed(dots), *names, *_key(radius)]


def _bytes(row: GridRow) -> float:
    return row.number("bytes_sent") or 0.0


def _missed(row: GridRow) -> float:
    return row.number("missed_share") or 0.0


def _axes(rows: Sequence[GridRow]) -> tuple[Axis, Axis]:
    sent = [_bytes(row) for row in rows]
    log = min(sent) > 0 and max(sent) > _SPREAD * min(sent)
    low, high = spanning(sent, log=log)
    _, top = spanning([*map(_missed, rows), 0.04], log=False)
    inset = _LARGEST + 4
    across = Axis(low, high, _FRAME.left + inset, _FRAME.right - inset, log)
    return across, Axis(0.0, min(1.0, top), _FRAME.bottom - inset, _FRAME.top + inset)


class _Radius:
    """Points whose area grows with reviews."""

    def __init__(self, most: float) -> None:
        self.most = most

    def __call__(self, reviews: float) -> float:
        part = (reviews / self.most) ** 0.5 if self.most else 0.0
        return round(_SMALLEST + (_LARGEST - _SMALLEST) * part, 1)

    def of(self, row: GridRow) -> float:
        """Of one variant's point."""
        return self(row.number("reviews") or 0.0)


def _grid_lines(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in y.ticks(5):
        parts += [
            rule(_FRAME.left, y.at(value), _FRAME.right, y.at(value), "grid"),
            text(_FRAME.left - 8, y.at(value) + 4, share(value), "tick", "end"),
        ]
    for value in x.ticks(7):
        parts += [
            rule(x.at(value), _FRAME.top, x.at(value), _FRAME.bottom, "grid"),
            text(x.at(value), _FRAME.bottom + 18, tick_size(value), "tick", "middle"),
        ]
    return [*parts, text((_FRAME.left + _FRAME.right) / 2, HEIGHT - 8, "evidence and pixels sent", "label", "middle"),
            text(8, 16, "defects missed", "label")]  # fmt: skip


def _stairs(rows: Sequence[GridRow], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Corners of the line along the fewest misses for the bytes: left and below of it nothing was seen."""
    points = [(_bytes(row), _missed(row)) for row in rows]
    best = sorted({point for point, kept in zip(points, front(points), strict=True) if kept})
    corners = [(x.at(best[0][0]), y.at(best[0][1]))]
    for sent, missed in best[1:]:
        corners += [(x.at(sent), corners[-1][1]), (x.at(sent), y.at(missed))]
    return corners


def _line(corners: Sequence[tuple[float, float]]) -> Markup:
    return Markup('<polyline points="{}" class="front"/>').format(" ".join(f"{x},{y}" for x, y in corners))


def _segments(corners: Sequence[tuple[float, float]]) -> list[Rect]:
    """The line's pieces."""
    return [Rect(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])) for a, b in pairwise(corners)]


def _dot(row: GridRow, spot: Spot, *, base: bool) -> Markup:
    assert row.missed is not None
    kind = f"{'best' if row.best else 'beaten'}{' base' if base else ''}"
    tip = (
        f"{row.name}: missed {row.missed.part} of {row.missed.of} ({interval(row.missed)}), "
        f"{size(_bytes(row))} for {count(row.figures['reviews'])} reviews"
    )
    return Markup('<circle cx="{}" cy="{}" r="{}" class="variant {}" data-name="{}"><title>{}</title></circle>').format(
        spot.x, spot.y, spot.radius, kind, row.name, tip
    )


def _name(row: GridRow, spot: Spot, where: Rect | None) -> Markup:
    if where is None:
        return Markup("")
    near = where.nearest(spot)
    away = math.dist(near, (spot.x, spot.y))
    line = Markup("")
    if away > spot.radius + FAR:
        part = spot.radius / away
        line = rule(spot.x + part * (near[0] - spot.x), spot.y + part * (near[1] - spot.y), *near, "leader")
    start, anchor = (where.right, "end") if where.right <= spot.x else (where.left, "start")
    style = "name best" if row.best else "name"
    return line + text(start, (where.top + where.bottom) / 2 + 4, row.name, style, anchor)


def _key(radius: _Radius) -> list[Markup]:
    """What the sizes and colours stand for, along the top edge."""
    parts, left = [], 150.0
    for words, kind in (("nothing beats it", "best"), ("beaten", "beaten"), ("base", "beaten base")):
        parts += [
            Markup('<circle cx="{}" cy="12" r="6" class="variant {}"/>').format(left, kind),
            text(left + 11, 16, words, "tick"),
        ]
        left += 27 + 6.4 * len(words)
    left += 16
    for reviews in dict.fromkeys(round(radius.most * part) for part in (0.1, 1)):
        size_px = radius(reviews)
        words = f"{count(reviews)} reviews"
        parts += [
            Markup('<circle cx="{}" cy="{}" r="{}" class="variant size"/>').format(left, _LARGEST + 2, size_px),
            text(left + size_px + 5, 16, words, "tick"),
        ]
        left += 2 * size_px + 24 + 6.4 * len(words)
    return parts
