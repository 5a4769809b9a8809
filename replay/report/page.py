"""The report of a run: one HTML file that needs nothing else, with pictures, plots and the ledger."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fusion.errors import InputError
from fusion.types import ItemState
from replay.report import defect_list, ledger_figure, recordings, samples, thumbnails, wording
from replay.report.album import Album
from replay.report.cards import Card, Deck, anchor
from replay.report.figures import figures, slot_intervals
from replay.report.measurements import measurements
from replay.report.plots import reliability
from replay.report.rows import Row, rows
from replay.report.selection import chosen
from replay.report.thumbnails import Passing, Shelf
from replay.report.tiles import tiles
from replay.report.timeline import timeline
from replay.report.utterances import MAX_AUDIO_BYTES, Utterance
from replay.results import answers
from replay.results.frames import FrameView
from replay.results.records import ItemResult, RunResults

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_CARDS = 72
"""Items shown with pictures."""
MAX_ROWS = 3000
"""Items listed in the table."""
MAX_TIMELINES = 40
OPEN_TIMELINES = 3
"""Recordings drawn over time, and how many of them are shown without being asked for."""
MAX_RECORDINGS = 300
MAX_DEFECTS = 400
"""Lines of those tables."""
EDGE_BUDGET_MS = 50.0
_RIVALS = (answers.Answerer.DEVICE, answers.Answerer.DETECTOR)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one recording shows. `frames` gives the view at a sample's `time_ns` and is asked in rising order
    (`FrameIndex`); `said` is what was spoken (`utterances`).
    """

    frames: Callable[[int], FrameView | None]
    said: Sequence[Utterance] = ()


def write_report(
    results: RunResults,
    out_html: Path,
    shown: Mapping[str, Shown],
    *,
    max_cards: int = MAX_CARDS,
) -> None:
    """Write the report of `results` to `out_html`; `shown` has each recording's pictures by its name.

    Raises `InputError` when the file cannot be written.
    """
    page = _environment().get_template("report.html").render(_content(results, shown, max_cards))
    try:
        out_html.parent.mkdir(parents=True, exist_ok=True)
        out_html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out_html}: the report cannot be written: {error.strerror or error}") from None


def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("size", "duration", "share", "count", "interval"):
        environment.filters[name] = getattr(wording, name)
    environment.filters["sound"] = _sound
    environment.filters["fingerprint"] = _fingerprint
    return environment


def _sound(wav: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(wav).decode('ascii')}"


def _fingerprint(script: str) -> str:
    """What the page's policy calls this script by, so that a browser runs no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def _content(results: RunResults, shown: Mapping[str, Shown], max_cards: int) -> dict[str, Any]:
    decided = defect_list.deciding(results)
    picked = chosen(results.items, max_cards, defect_list.missed_items(results, decided))
    first_ns = {one.name: one.samples[0].time_ns if one.samples else 0 for one in results.recordings}
    moments = frozenset((item.recording, item.time_ns) for item in picked)
    album = Album(len(moments))
    choice = samples.choose(results, samples.MOST_SAMPLES, samples.MOST_ITEMS, thumbnails.MOST, moments)
    shelf = Shelf(choice.pictured)
    cards = _cards(results, shown, picked, first_ns, album, shelf)
    anchors = {item.id: anchor(item) for item in picked}
    listed = rows(results.items, first_ns, anchors, MAX_ROWS)
    return {
        "results": results,
        "seconds": sum(one.seconds for one in results.recordings),
        "tiles": tiles(results, EDGE_BUDGET_MS),
        "recordings": recordings.recording_rows(results, MAX_RECORDINGS),
        "unused": recordings.nothing_used(results.recordings),
        "defects": defect_list.defect_list(results, decided, first_ns, anchors, MAX_DEFECTS),
        "figures": figures(results),
        "books": _books(results),
        "checks": ledger_figure.checks(results),
        "measurements": measurements(results, EDGE_BUDGET_MS),
        "timelines": _timelines(results, shown, anchors),
        "open_timelines": OPEN_TIMELINES,
        "most_sound": MAX_AUDIO_BYTES,
        "cards": cards,
        "reviewed": sum(item.state is ItemState.REVIEWED for item in results.items),
        "reviewed_cards": sum(card.item.state is ItemState.REVIEWED for card in cards),
        "album": album,
        "choice": choice,
        "pictured": sum(
            (name, sample.time_ns) in moments or (name, sample.time_ns) in shelf.pictures
            for name, chosen_samples in choice.samples.items()
            for sample in chosen_samples
        ),
        "sample_data": Markup(samples.browser_json(results, choice, album, shelf, anchors)),  # noqa: S704 - it escapes <
        "rows": listed,
        "filters": _filters(cards, listed),
        "summary": [(key, wording.SUMMARY.get(key, ""), wording.figure(key, v)) for key, v in results.summary.items()],
        **_compared(results),
    }


def _cards(
    results: RunResults,
    shown: Mapping[str, Shown],
    picked: Sequence[ItemResult],
    first_ns: Mapping[str, int],
    album: Album,
    shelf: Shelf,
) -> list[Card]:
    """The picked items' cards, in their order; each recording is read once, and the `shelf` filled on the way."""
    ranks = {item.id: rank for rank, item in enumerate(picked, 1)}
    cards: list[Card] = []
    for one in results.recordings:
        frames = Passing(one.name, shown[one.name].frames, shelf)
        mine = {ranks[item.id]: item for item in one.items if item.id in ranks}
        if mine:
            deck = Deck(results.task, one.name, first_ns[one.name], _by_time(one.items), frames, album)
            cards += deck.deal(mine)
        frames.finish()
    return sorted(cards, key=lambda card: card.rank)


def _timelines(results: RunResults, shown: Mapping[str, Shown], anchors: dict[str, str]) -> list[dict[str, Any]]:
    with_sound = any(utterance.wav for one in shown.values() for utterance in one.said)
    return [
        {
            "name": one.name,
            "silent": sum(not utterance.wav for utterance in shown[one.name].said) if with_sound else 0,
            "drawing": timeline(one, shown[one.name].said, anchors, EDGE_BUDGET_MS),
            "said": [((u.start_ns - one.samples[0].time_ns) / 1e9, u) for u in shown[one.name].said if one.samples],
        }
        for one in results.recordings[:MAX_TIMELINES]
    ]


def _by_time(items: Sequence[ItemResult]) -> dict[int, list[ItemResult]]:
    together: dict[int, list[ItemResult]] = defaultdict(list)
    for item in items:
        together[item.time_ns].append(item)
    return together


def _books(results: RunResults) -> list[dict[str, Any]]:
    sides = (("device", "On the device", results.edge_ledger), ("cloud", "In the cloud", results.cloud_ledger))
    return [
        {
            "side": side,
            "title": title,
            "counts": counts,
            "drawing": ledger_figure.figure(f"where the items ended: {title.lower()}", counts),
            "states": [(state.value, number, wording.STATES[state]) for state, number in ledger_figure.states(counts)],
        }
        for side, title, counts in sides
        if counts
    ]


def _compared(results: RunResults) -> dict[str, Any]:
    task, items = results.task, results.items
    whole = answers.calibration(items)
    return {
        "accuracies": [*answers.slot_accuracies(task, items), answers.verdict_accuracy(items)],
        "confusions": [c for slot in task.slots if (c := answers.confusion(slot, items)).n],
        "calibration": whole,
        "intervals": slot_intervals(results),
        "leads": [(by.value, lead) for by in _RIVALS if (lead := answers.lead(items, by))],
        "reliability": reliability("confidence against correctness", whole),
        "slot_calibration": {slot.name: answers.calibration(items, slot.name) for slot in task.slots},
    }


def _filters(cards: Sequence[Card], listed: Sequence[Row]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Heading, data attribute and choices (value, words) of each filter; only choices that occur."""
    items = [*(card.item for card in cards), *(row.item for row in listed)]
    outcomes, states = {answers.outcome(item) for item in items}, {item.state for item in items}
    reasons, labels = {reason for item in items for reason in item.reasons}, {item.label for item in items}
    return [
        ("Answer", "outcome", [(o.value, o.value) for o in answers.Outcome if o in outcomes]),
        ("State", "state", [(state.value, state.value) for state in ItemState if state in states]),
        ("Why sent", "reasons", [(reason, wording.short_reason(reason)) for reason in sorted(reasons)]),
        ("Class", "label", [(label, label) for label in sorted(labels)]),
    ]
