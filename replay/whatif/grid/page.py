"""`grid.html`: a grid as one page that needs nothing else: the Pareto picture and a table that can be put in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from replay.report.wording import count, duration
from replay.whatif.grid.files import write_text
from replay.whatif.grid.picture import drawing, picture
from replay.whatif.grid.records import Difference, Grid, GridRow
from replay.whatif.grid.wording import COLUMNS, cell, missing, sentence, told

HTML_NAME, SVG_NAME = "grid.html", "pareto.svg"
COMPARED: Mapping[str, str] = {
    "missed_share": "defects missed",
    "bytes_sent": "bytes sent",
    "reviews": "reviews",
    "verdict_accuracy": "verdicts right",
}
"""Figures with a difference, with what they are called."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of the table: as shown, by what it is put in order, and how it differs from the base."""

    shown: str
    order: float | None
    difference: str = ""
    clear: bool = False
    better: bool = False


def write_page(grid: Grid, out: Path, *, reports: bool = False) -> list[Path]:
    """Write the page and the picture as a file of its own; where they are. Raises `InputError`.

    With `reports` each variant's name leads to its report.
    """
    import jinja2

    folders = [resources.files("replay").joinpath(*parts, "templates") for parts in (("whatif", "grid"), ("report",))]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [name for name in COLUMNS if any(row.figures[name] not in (None, 0) for row in grid.rows)]
    content: dict[str, Any] = {
        "grid": grid,
        "picture": picture(grid),
        "columns": [(name, COLUMNS[name]) for name in names],
        "rows": [(row, [cell_of(row, name) for name in names], missing(row.fates)) for row in grid.rows],
        "sentences": [sentence(row, grid.base) for row in grid.rows],
        "units": _units(grid),
        "compared": COMPARED,
        "reports": reports,
        "seconds": duration(1000 * grid.seconds),
        "recordings": count(len(grid.recordings)),
    }
    write_text(out / HTML_NAME, environment.get_template("grid.html").render(content))
    write_text(out / SVG_NAME, drawing(grid))
    return [out / HTML_NAME, out / SVG_NAME]


def cell_of(row: GridRow, name: str) -> Cell:
    """One cell of the table."""
    difference = row.differences.get(name)
    if difference is None:
        return Cell(cell(row, name), row.number(name))
    return Cell(cell(row, name), row.number(name), told(name, difference), difference.clear, _better(name, difference))


def _better(name: str, difference: Difference) -> bool:
    return (difference.interval.value > 0) is (name == "verdict_accuracy")


def _units(grid: Grid) -> list[tuple[str, str]]:
    """What a pair is in the differences of each figure."""
    found = {name: one.unit for row in grid.rows for name, one in row.differences.items()}
    return [(COMPARED[name], found[name]) for name in COMPARED if name in found]
