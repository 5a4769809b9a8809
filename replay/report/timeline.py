"""The recording's timeline: what was said, what was sent and why, how many items, how long the device took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from replay.report.axes import Axis
from replay.report.plots import bar, rule, svg, text
from replay.report.utterances import Utterance
from replay.report.wording import duration, short_reason
from replay.results.answers import outcome
from replay.results.records import ItemResult, RecordingResults, SampleResult

_WIDTH, _LEFT, _RIGHT = 1320.0, 132.0, 16.0
_LANE, _CHART = 24.0, 74.0
_REASONS = ("asked_for", "suspect", "disagreement", "uncertain", "novel", "audit")
_BINS = 150
_POINTS = 1200
"""Points of a line and ticks of a lane, about one a pixel; of more samples a line shows the slowest of each step."""


def timeline(results: RecordingResults, said: Sequence[Utterance], cards: dict[str, str], budget_ms: float) -> Markup:
    """Lanes over the recording's time. `cards` names the page's anchor for an item id, for those that have one."""
    if not results.samples:
        return Markup('<p class="none">{}</p>').format("No sample was processed.")
    times = [sample.time_ns for sample in results.samples]
    first = min(times)
    x = Axis(0, max(0.1, (max(times) - first) / 1e9), _LEFT, _WIDTH - _RIGHT)
    parts: list[Markup] = []
    down = 10.0
    if said:
        parts += _speech(x, first, down, said)
        down += _LANE + 16
    sent = [item for item in results.items if item.evidence_bytes or item.verdict]
    known = [*_REASONS, *sorted({r for item in sent for r in item.reasons} - set(_REASONS))]
    for reason in known:
        chosen = [item for item in sent if reason in item.reasons]
        if chosen:
            parts += _reason(x, first, down, reason, chosen, cards)
            down += _LANE
    parts += _items(x, first, down + 10, results.items)
    parts += _latency(x, first, down + _CHART + 28, results, budget_ms)
    bottom = down + 2 * _CHART + 40
    for value in x.ticks(12):
        parts.append(text(x.at(value), bottom + 16, f"{value:g} s", "tick", "middle"))
    return svg(_WIDTH, bottom + 24, f"timeline of {results.name}", *parts)


def _speech(x: Axis, first: int, top: float, said: Sequence[Utterance]) -> list[Markup]:
    parts = [_name(top + 15, "said")]
    for utterance in said:
        left, right = (x.at((t - first) / 1e9) for t in (utterance.start_ns, utterance.end_ns))
        words = f"“{utterance.transcript}”" + (f" → {utterance.intent}" if utterance.intent else "")
        wide = max(right - left, 3.0)
        parts.append(bar(left, top, wide, _LANE, "spoken", words))
        if letters := int((wide - 10) / 6.6):
            shown = (
                utterance.transcript
                if len(utterance.transcript) <= letters
                else utterance.transcript[: letters - 1] + "…"
            )
            parts.append(text(left + 6, top + 16, shown if letters > 3 else "", "speech"))
    return parts


def _reason(
    x: Axis, first: int, top: float, reason: str, items: Sequence[ItemResult], cards: dict[str, str]
) -> list[Markup]:
    parts = [_name(top + 16, short_reason(reason)), rule(x.start, top + 12, x.end, top + 12, "lane")]
    for item in _thinned(x, first, items, cards):
        place = x.at((item.time_ns - first) / 1e9)
        tip = f"{item.label} at {(item.time_ns - first) / 1e9:.1f} s: {outcome(item).value}"
        tick = bar(place - 1.5, top + 4, 3, 16, f"event {outcome(item).value}", tip)
        anchor = cards.get(item.id)
        parts.append(Markup('<a href="#{}">{}</a>').format(anchor, tick) if anchor else tick)
    return parts


def _thinned(x: Axis, first: int, items: Sequence[ItemResult], cards: dict[str, str]) -> Sequence[ItemResult]:
    """All of them, or of too many one a pixel and outcome, with a card where there is one."""
    if len(items) <= _POINTS:
        return items
    kept: dict[tuple[int, str], ItemResult] = {}
    for item in items:
        place = round(x.at((item.time_ns - first) / 1e9)), outcome(item).value
        if place not in kept or (item.id in cards and kept[place].id not in cards):
            kept[place] = item
    return list(kept.values())


def _items(x: Axis, first: int, top: float, items: Sequence[ItemResult]) -> list[Markup]:
    parts = [_name(top + 14, "items seen")]
    if not items:
        return parts
    edges = x.edges(min(_BINS, max(10, len({item.time_ns for item in items}))))
    seconds = [(item.time_ns - first) / 1e9 for item in items]
    sent = [(item.time_ns - first) / 1e9 for item in items if item.evidence_bytes or item.verdict]
    every, some = np.histogram(seconds, edges)[0], np.histogram(sent, edges)[0]
    y = Axis(0, float(every.max()), top + _CHART - 8, top)
    for index in np.flatnonzero(every):
        left, right = x.at(edges[index]), x.at(edges[index + 1])
        tip = f"{every[index]} items from {edges[index]:.1f} to {edges[index + 1]:.1f} s, {some[index]} sent"
        for number, style in ((every[index], "bar seen"), (some[index], "bar sent")):
            parts.append(bar(left + 0.4, y.at(number), right - left - 0.8, y.start - y.at(number), style, tip))
    return [*parts, rule(x.start, y.start, x.end, y.start, "grid")]


def _latency(x: Axis, first: int, top: float, results: RecordingResults, budget_ms: float) -> list[Markup]:
    slowest = max(sample.edge_ms for sample in results.samples)
    usual = float(np.percentile([sample.edge_ms for sample in results.samples], 99.5))
    y = Axis(0, max(budget_ms * 1.15, usual), top + _CHART - 8, top)
    limit = y.at(budget_ms)
    parts = [
        _name(top + 14, "edge time"),
        _name(top + 30, f"up to {duration(slowest)}", "tick"),
        _name(top + 47, "engines below it", "tick engine"),
        rule(x.start, y.start, x.end, y.start, "grid"),
        rule(x.start, limit, x.end, limit, "mark budget"),
        text(x.end, limit - 4, f"budget {duration(budget_ms)}", "note budget", "end"),
    ]
    shown = _slowest(results.samples)
    for style, values in (("edge", [s.edge_ms for s in shown]), ("engine", [s.engine_ms for s in shown])):
        points = " ".join(
            f"{x.at((sample.time_ns - first) / 1e9):.1f},{y.at(value):.1f}"
            for sample, value in zip(shown, values, strict=True)
        )
        parts.append(Markup('<polyline points="{}" class="line {}"/>').format(points, style))
    return parts


def _slowest(samples: Sequence[SampleResult]) -> Sequence[SampleResult]:
    """All of them, or of too many the slowest of each step."""
    step = -(-len(samples) // _POINTS)
    return [max(samples[at : at + step], key=lambda sample: sample.edge_ms) for at in range(0, len(samples), step)]


def _name(y: float, words: str, style: str = "lane-name") -> Markup:
    return text(_LEFT - 12, y, words, style, "end")
