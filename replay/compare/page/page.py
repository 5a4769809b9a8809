"""Writes the page: what it comes to, what it looks like, every number that moved, every item that changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from replay.compare.changes import Change
from replay.compare.comparison import Comparison
from replay.compare.matching import Matching
from replay.compare.page.cards import cards, seconds, title
from replay.compare.page.figures import interval
from replay.compare.page.pictures import Frames, cuts, missing_words, places_of
from replay.compare.statistics import Difference
from replay.compare.told import fate_words, map50
from replay.report import wording

MAX_CARDS = 60
"""Changes shown with pictures, the worst."""
MAX_ROWS = 2000
"""Changes listed in the table, the worst."""
_HERE = Path(__file__).parent / "templates"
_REPORT = Path(wording.__file__).parent / "templates"
_KINDS = {"new": "new", "gone": "gone", "device": "fused answers", "detector": "detector's answers",
          "evidence_bytes": "evidence bytes", "maps_bytes": "map bytes", "box3d": "3-D box"}  # fmt: skip


def write_page(found: Comparison, out_html: Path, *, max_cards: int = MAX_CARDS) -> None:
    """Write the page of a comparison. Raises `InputError` when the file cannot be written."""
    page = _environment().get_template("compare.html").render(_content(found, max_cards))
    try:
        out_html.parent.mkdir(parents=True, exist_ok=True)
        out_html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out_html}: the page cannot be written: {error.strerror or error}") from None


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_HERE, _REPORT]), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        count=wording.count, kind=lambda name: _KINDS.get(name, name), interval=interval, metric=_metric, step=_step
    )
    return environment


def _content(found: Comparison, max_cards: int) -> dict[str, Any]:
    task, picked = found.before.results.task, found.changes[:max_cards]
    first_ns, places = _first_ns(found.matching), places_of(found.matching)
    before, after = Frames(found.before), Frames(found.after)
    pictures = cuts(picked, before, after, places)
    listed = found.changes[:MAX_ROWS]
    whole = [one for one in found.differences if not one.slice.by]
    parts = [one for one in found.differences if one.slice.by]
    return {
        "found": found,
        "task": task,
        "names": (str(found.before.path), str(found.after.path)),
        "cards": cards(task, picked, first_ns, pictures),
        "rows": [(rank, seconds(one, first_ns), title(one), one) for rank, one in enumerate(listed, 1)],
        "missing": tuple(missing_words(before, after, places)),
        "fates": [(one, fate_words(one)) for one in found.fates],
        "map50": map50(found),
        "whole": whole,
        "parts": [one for one in parts if one.real],
        "judged": len([one for one in parts if one.p is not None]),
        "filters": _filters(listed),
    }


def _first_ns(matching: Matching) -> dict[str, int]:
    """When the first item of each recording was, by its name as in `Change.recording`."""
    sides = [(one.before.name, one.before.items or one.after.items) for one in matching.recordings]
    sides += [(one.name, one.items) for one in (*matching.gone, *matching.new)]
    return {name: min((item.time_ns for item in items), default=0) for name, items in sides}


def _filters(changes: Sequence[Change]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Heading, data attribute and choices (value, words) of each filter; only those that leave a choice."""
    kinds = sorted({kind for change in changes for kind in change.kinds})
    turned = [one for one in ("worse", "better") if any(change.turned == one for change in changes)]
    labels = sorted({change.item.label for change in changes})
    recordings = sorted({change.recording for change in changes})
    found = [
        ("What changed", "kinds", [(kind, _KINDS.get(kind, kind)) for kind in kinds]),
        ("Turned", "turned", [(one, {"worse": "right to wrong", "better": "wrong to right"}[one]) for one in turned]),
        ("Class", "label", [(label, label) for label in labels]),
        ("Recording", "recording", [(name, name) for name in recordings]),
    ]
    return [one for one in found if len(one[2]) > 1 or (one[1] == "turned" and one[2])]


def _metric(value: float, unit: str) -> str:
    if unit == "share":
        return wording.share(value)
    return wording.size(value) if unit == "bytes" else f"{value:.3f}"


def _step(one: Difference) -> str:
    """The difference and its interval, with signs."""
    step, scale = one.interval, 100.0 if one.unit == "share" else 1.0
    digits, word = (0, " B") if one.unit == "bytes" else (1, " points") if one.unit == "share" else (3, "")
    told = [f"{scale * value:+.{digits}f}" for value in (step.value, step.low, step.high)]
    return f"{told[0]}{word}, {told[1]} to {told[2]}"
