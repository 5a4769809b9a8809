"""The reviewer against the device it reviews, on the same held-out items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.codec import FULL, Rate
from fusion.errors import InputError
from fusion.evaluation.answers import detector_answers, device_answers
from fusion.evaluation.bootstrap import mean_interval
from fusion.evaluation.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood
from fusion.review.folder import save_temperatures
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.temperatures import temper
from fusion.types import BoolArray, DeviceOpinion, Float64Array

CONFIDENCE_FLOOR = 0.6
"""A slot whose answer is less probable than this makes the service ask for pixels."""
REVIEWER, ASK_BACK, DEVICE, DETECTOR = (
    "reviewer",
    "reviewer, pixels where uncertain",
    "device, fused heads",
    "detector only",
)


def escalated(cache: ItemCache) -> BoolArray:
    """Which items (N,) the device would send."""
    return escalated_rows(cache.columns)


def escalated_rows(
    columns: Mapping[str, NDArray[Any]],
    *,
    uncertain_below: float = 0.5,
    asked: float = 0.5,
    disagree_above: float = 0.5,
) -> BoolArray:
    """Which of the items with these columns of `ItemCache` (N,) the device would send, by its screening rule on single
    samples.

    A head's lead over its second answer is small, detector and fusion are both sure of different labels, or the
    item is asked for. Without fused heads, the detector's lead decides, "no object" being one of its answers.
    """
    scores, labels = columns["class_scores"], columns["label_scores"]
    top = scores.max(1)
    if not labels.any():
        return np.asarray(_lead(np.concatenate([scores, 1 - top[:, None]], 1)) < uncertain_below)
    best = labels.argmax(1)
    nothing = best == labels.shape[1] - 1
    doubt = (_lead(labels) < uncertain_below) | (~nothing & (_lead(columns["condition_scores"]) < uncertain_below))
    disagree = (best != scores.argmax(1)) & (top >= disagree_above) & (labels.max(1) >= disagree_above)
    return np.asarray(doubt | disagree | (columns["asked_score"] >= asked))


def calibrate_reviewer(
    folder: Path, cache: ItemCache, *, rows: BoolArray | None = None, crops_alone: bool = False
) -> dict[str, Any]:
    """Fit one temperature a slot on validation items (those of `rows`, else all), with and without pixels, or with
    pixels and without maps, and write `calibration.json` into the reviewer's folder. Returns what it says of the fit.
    """
    chosen = cache if rows is None or not rows.any() else cache.take(rows)
    reviewer = MiniReviewer.load(str(folder))
    seen = (True,) if crops_alone else (False, True)
    told = [predict(reviewer, chosen, pixels=pixels, maps=not crops_alone, crops_alone=crops_alone) for pixels in seen]
    return calibrate(folder, chosen, told, reviewer.files.temperatures)


def calibrate(
    folder: Path, cache: ItemCache, told: Sequence[Sequence[Float64Array]], before: Sequence[float]
) -> dict[str, Any]:
    """Fit one temperature a slot and write `calibration.json`. Returns what it says of the fit.

    `told` has the probabilities (N, options) a slot of all items for every way of asking; `before` are the temperatures
    in them.
    """
    tables = [np.concatenate(ways) for ways in zip(*told, strict=True)]
    facts: dict[str, Any] = {"items": len(cache), "slots": {}}
    temperatures = []
    for index, slot in enumerate(cache.task.slots):
        raw, truth = temper(tables[index], 1 / before[index]), np.tile(cache.columns["truth"][:, index], len(told))
        temperature = fit_temperature(raw, truth)
        fitted = temper(raw, temperature)
        temperatures.append(temperature)
        facts["slots"][slot.name] = {
            "ece_before": expected_calibration_error(raw, truth),
            "ece": expected_calibration_error(fitted, truth),
            "nll_before": negative_log_likelihood(raw, truth),
            "nll": negative_log_likelihood(fitted, truth),
        }
    save_temperatures(folder, cache.task, temperatures, facts)
    return {"temperatures": temperatures, **facts}


def predict(
    reviewer: MiniReviewer,
    cache: ItemCache,
    *,
    pixels: bool,
    maps: bool = True,
    crops_alone: bool = False,
    rate: Rate = FULL,
    batch: int = 64,
) -> list[Float64Array]:
    """Calibrated probabilities (N, options) of items sent at a rate, a table a slot; `crops_alone` as it learnt."""
    parts = []
    for start in range(0, len(cache), batch):
        places = range(start, min(start + batch, len(cache)))
        rows = [cache.features(i, pixels=pixels, maps=maps, rate=rate) for i in places]
        parts.append([table.numpy() for table in reviewer.probabilities(rows, crops_alone=crops_alone)])
    return [np.concatenate(slot) for slot in zip(*parts, strict=True)]


def best_threshold(cache: ItemCache, condition: str) -> float:
    """The detector score from which "there is something" is right most often, on validation items."""
    scores = cache.columns["class_scores"].max(1)
    candidates = np.unique(np.quantile(scores, np.linspace(0, 1, 51)))
    rights = [_right(_detector(cache, float(t), condition), cache).all(1).mean() for t in candidates]
    return float(candidates[int(np.argmax(rights))])


def evaluate_reviewer(
    reviewer: MiniReviewer,
    cache: ItemCache,
    out: Path,
    *,
    validation: ItemCache | None = None,
    sent: BoolArray | None = None,
    floor: float = CONFIDENCE_FLOOR,
) -> dict[str, Any]:
    """Compare on the items of `sent` (N,), by default the device's own rule, and on all items.

    Writes `out/reviewer.json` and `out/reviewer.md` and returns what the JSON holds. Intervals are paired
    bootstraps over scenes, 95 %. `validation` sets the detector's threshold; without it, the test items do, in
    the detector's favour. Pixels are read where the service asks for them: where the probability of a slot's
    answer, which need not be its most probable one, is below `floor`. The calibration error is of those answers,
    with pixels where uncertain. Raises `InputError` when reviewer and items do not fit, or nothing was sent.
    """
    if reviewer.task.name != cache.task.name or cache.profile.sha256 not in reviewer.profiles:
        raise InputError(
            f"{reviewer.name} does not read items of task {cache.task.name}, trunk {cache.profile.sha256[:12]}"
        )
    sent = escalated(cache) if sent is None else sent
    if not sent.any():
        raise InputError("no item was escalated; lower the screening thresholds or give more scenes")
    plain = predict(reviewer, cache, pixels=False)
    unsure = np.min(_told(plain, reviewer.choose(plain)), axis=0) < floor
    final = [table.copy() for table in plain]
    if unsure.any():
        for table, again in zip(final, predict(reviewer, cache.take(unsure), pixels=True), strict=True):
            table[unsure] = again
    usual = _usual_condition(validation or cache)
    threshold = best_threshold(validation or cache, usual)
    given = reviewer.choose(final)
    right = {
        REVIEWER: _right(reviewer.choose(plain), cache),
        ASK_BACK: _right(given, cache),
        DETECTOR: _right(_detector(cache, threshold, usual), cache),
    }
    if cache.columns["label_scores"].any():
        right[DEVICE] = _right(_device(cache), cache)
    everything = np.ones(len(cache), np.bool_)
    report = {
        "reviewer": reviewer.name,
        "task": cache.task.name,
        "detector_threshold": threshold,
        "confidence_floor": floor,
        "escalated": _section(cache, right, sent, final, given, unsure),
        "all_items": _section(cache, right, everything, final, given, unsure),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "reviewer.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "reviewer.md").write_text(markdown(report), encoding="utf-8")
    return report


def markdown(report: Mapping[str, Any]) -> str:
    """The report's tables for people."""
    lines = [f"# {report['reviewer']} on held-out items of {report['task']}", ""]
    for part in ("escalated", "all_items"):
        section = report[part]
        slots = list(section["ece"])
        lines += [
            f"## {part.replace('_', ' ')}: {section['items']} items of {section['scenes']} scenes",
            "",
            f"Pixels were asked for {section['asked_back']:.1%} of them.",
            "",
            f"| who answers | verdict right [95 %] | {' | '.join(slots)} |",
            f"|---|---|{'---|' * len(slots)}",
        ]
        for name, row in section["methods"].items():
            cells = " | ".join(f"{row['slots'][slot]:.3f}" for slot in slots)
            lines.append(f"| {name} | {_interval(row['verdict'])} | {cells} |")
        lines += ["", "| difference in verdicts right | value [95 %] |", "|---|---|"]
        lines += [f"| {name} | {_interval(value)} |" for name, value in section["differences"].items()]
        lines += ["", "| slot | expected calibration error |", "|---|---|"]
        lines += [f"| {slot} | {value:.3f} |" for slot, value in section["ece"].items()] + [""]
    return "\n".join(lines)


def _section(
    cache: ItemCache,
    right: Mapping[str, BoolArray],
    rows: BoolArray,
    final: list[Float64Array],
    given: NDArray[np.int64],
    unsure: BoolArray,
) -> dict[str, Any]:
    scenes, names = cache.columns["scene"][rows], [slot.name for slot in cache.task.slots]
    whole: dict[str, Float64Array] = {name: np.asarray(table[rows].all(1), np.float64) for name, table in right.items()}
    methods = {
        name: {
            "verdict": asdict(mean_interval(whole[name], scenes)),
            "slots": dict(zip(names, right[name][rows].mean(0).tolist(), strict=True)),
        }
        for name in right
    }
    pairs = [(a, b) for a in (REVIEWER, ASK_BACK) for b in (DEVICE, DETECTOR) if b in right] + [(ASK_BACK, REVIEWER)]
    truth = cache.columns["truth"][rows]
    return {
        "items": int(rows.sum()),
        "scenes": len(np.unique(scenes)),
        "asked_back": float(unsure[rows].mean()),
        "methods": methods,
        "differences": {f"{a} minus {b}": asdict(mean_interval(whole[a] - whole[b], scenes)) for a, b in pairs},
        "ece": {
            n: expected_calibration_error(t[rows], truth[:, i], answers=given[rows, i])
            for i, (n, t) in enumerate(zip(names, final, strict=True))
        },
    }


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _told(tables: Sequence[Float64Array], answers: NDArray[np.int64]) -> list[Float64Array]:
    """The probability (N,) of the answer, a slot; `answers` (N, slots)."""
    return [np.take_along_axis(table, answers[:, [i]], 1)[:, 0] for i, table in enumerate(tables)]


def _lead(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _right(answers: NDArray[np.int64], cache: ItemCache) -> BoolArray:
    return np.asarray(answers == cache.columns["truth"])


def _usual_condition(cache: ItemCache) -> str:
    for index, slot in enumerate(cache.task.slots):
        if slot.name == "condition":
            return slot.options[int(np.bincount(cache.columns["truth"][:, index]).argmax())]
    return "ok"


def _device(cache: ItemCache) -> NDArray[np.int64]:
    columns, layout = cache.columns, cache.layout

    def answers(row: int) -> dict[str, str]:
        opinion = DeviceOpinion(
            dict(zip(layout.labels, columns["label_scores"][row].tolist(), strict=True)),
            dict(zip(layout.conditions, columns["condition_scores"][row].tolist(), strict=True)),
            float(columns["asked_score"][row]),
        )
        return device_answers(cache.task, opinion)

    return _indices(cache, answers)


def _detector(cache: ItemCache, threshold: float, condition: str) -> NDArray[np.int64]:
    scores, told = cache.columns["class_scores"], cache.columns["told_conditions"]

    def answers(row: int) -> dict[str, str]:
        named = dict(zip(cache.layout.classes, scores[row].tolist(), strict=True))
        conditions = dict(zip(cache.layout.conditions, told[row].tolist(), strict=True))
        return detector_answers(
            cache.task, named, condition_scores=conditions, threshold=threshold, condition=condition
        )

    return _indices(cache, answers)


def _indices(cache: ItemCache, answers: Callable[[int], dict[str, str]]) -> NDArray[np.int64]:
    rows = []
    for row in range(len(cache)):
        said = answers(row)
        rows.append([slot.options.index(said[slot.name]) for slot in cache.task.slots])
    return np.array(rows, np.int64).reshape(len(cache), len(cache.task.slots))
