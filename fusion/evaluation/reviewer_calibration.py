"""Temperatures for any reviewer that reads pixels: fitted on one split of items, reported on another.

The reviewer is asked as the service asks it, through `prepare` and `score`; the crops are those of the items' cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ConfigError, FusionError, InputError
from fusion.evaluation.bootstrap import Interval, interval_of, mean_interval
from fusion.evaluation.calibration import BINS, expected_calibration_error, fit_temperature, negative_log_likelihood
from fusion.review import ANY_PROFILE, Reviewer, RowsError
from fusion.review.item_cache import ItemCache
from fusion.review.synthetic import synthetic_evidence
from fusion.review.temperatures import is_tempered, temper, write_temperatures
from fusion.types import BoolArray, Box2D, Evidence, Float64Array, PixelCrop, SlotAnswer, UInt8Array

BATCH = 32


def halves(cache: ItemCache) -> tuple[ItemCache, ItemCache]:
    """Every second scene, and the others. Raises `InputError` where there is but one."""
    _, scene = np.unique(cache.columns["scene"], return_inverse=True)
    odd: BoolArray = np.asarray(scene % 2 == 1)
    if not odd.any():
        raise InputError("items of one scene cannot be split in two; give --held-out")
    return cache.take(~odd), cache.take(odd)


def calibrate_reviewer_file(
    reviewer: Reviewer, fitting: ItemCache, held_out: ItemCache, out: Path, *, draws: int = 500
) -> dict[str, Any]:
    """Fit a temperature a slot on `fitting`, write them to `out` and return what that says of `held_out`.

    Raises `ConfigError` for a reviewer that keeps its own, `InputError` for items of another task.
    """
    _check(reviewer, fitting, held_out)
    slots = reviewer.task.slots
    told, truth = ask(reviewer, fitting), fitting.columns["truth"]
    temperatures = {slot.name: fit_temperature(told[i], truth[:, i]) for i, slot in enumerate(slots)}
    told, truth, scenes = ask(reviewer, held_out), held_out.columns["truth"], held_out.columns["scene"]
    report = {
        "method": "temperature scaling (Guo et al., 2017), least log-loss by golden section",
        "ece": f"{BINS} equal-width bins of confidence, not debiased: a few hundredths remain with few items",
        "intervals": f"95 %, bootstrap over scenes, {draws} draws",
        "fitted_on": {"items": len(fitting), "scenes": len(np.unique(fitting.columns["scene"]))},
        "held_out": {"items": len(held_out), "scenes": len(np.unique(scenes))},
        "slots": {
            slot.name: _figures(told[i], temper(told[i], temperatures[slot.name]), truth[:, i], scenes, draws)
            for i, slot in enumerate(slots)
        },
    }
    write_temperatures(out, reviewer.task, reviewer.name, temperatures, report)
    return {"reviewer": reviewer.name, "temperatures": temperatures, **report}


def ask(reviewer: Reviewer, cache: ItemCache) -> list[Float64Array]:
    """Probabilities (N, options) a slot from every item's crop. Raises what a row that has no answer says."""
    answers: list[dict[str, SlotAnswer]] = []
    blank = synthetic_evidence(cache.task, synthetic_profile(task=cache.task.name), 0)[0]
    blank = replace(blank, maps=None, tokens=None)
    for start in range(0, len(cache), BATCH):
        rows = [
            reviewer.prepare(_with_crop(blank, cache.columns["crop"][i]))
            for i in range(start, min(start + BATCH, len(cache)))
        ]
        try:
            answers += reviewer.score(rows)
        except RowsError as error:
            raise next(row for row in error.rows if isinstance(row, FusionError)) from None
    return [
        np.array([[answer[slot.name].probabilities[option] for option in slot.options] for answer in answers])
        for slot in reviewer.task.slots
    ]


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a table."""
    lines = [
        f"# {report['reviewer']}: {report['held_out']['items']} held-out items",
        "",
        f"Fitted on {report['fitted_on']['items']} others. ECE: {report['ece']}. Intervals: {report['intervals']}.",
        "",
        "| slot | temperature | right | log-loss before | after | ECE before | after | ECE, change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["slots"].items():
        keys = ("accuracy", "nll_before", "nll", "ece_before", "ece", "ece_change")
        cells = " | ".join(str(Interval(**row[key])) for key in keys)
        lines.append(f"| {name} | {report['temperatures'][name]:.2f} | {cells} |")
    return "\n".join([*lines, ""])


def _check(reviewer: Reviewer, *caches: ItemCache) -> None:
    if ANY_PROFILE not in reviewer.profiles:
        raise ConfigError(
            f"{reviewer.name} keeps its temperatures in its own folder; training fits them "
            "(fusion train reviewer, fusion train projector)"
        )
    if is_tempered(reviewer.name):
        raise ConfigError(f"{reviewer.name} has a calibration already; give its name without calibration=")
    for cache in caches:
        if cache.task.prompt_sha256 != reviewer.task.prompt_sha256:
            raise InputError(f"{reviewer.name} is asked about {reviewer.task.name}, the items are of {cache.task.name}")


def _figures(
    before: Float64Array, after: Float64Array, truth: NDArray[np.int64], scenes: NDArray[np.int64], draws: int
) -> dict[str, Any]:
    rows = np.arange(len(truth))
    right = np.asarray(after.argmax(1) == truth, np.float64)
    losses = [-np.log(np.maximum(table[rows, truth], 1e-12)) for table in (before, after)]
    nll_before, nll = (mean_interval(loss, scenes, draws=draws) for loss in losses)
    assert np.isclose(nll.value, negative_log_likelihood(after, truth))

    def error(table: Float64Array, weights: Float64Array) -> float:
        return expected_calibration_error(table, truth, weights=weights)

    def change(weights: Float64Array) -> float:
        return error(after, weights) - error(before, weights)

    ways: dict[str, Callable[[Float64Array], float]] = {
        "ece_before": partial(error, before),
        "ece": partial(error, after),
        "ece_change": change,
    }
    return {
        "accuracy": asdict(mean_interval(right, scenes, draws=draws)),
        "nll_before": asdict(nll_before),
        "nll": asdict(nll),
        **{name: asdict(interval_of(way, scenes, draws=draws)) for name, way in ways.items()},
    }


def _with_crop(blank: Evidence, crop: UInt8Array) -> Evidence:
    """An item of which only the crop is told, without loss."""
    encoded = cv2.imencode(".png", np.ascontiguousarray(crop[..., ::-1]))[1].tobytes()
    side = float(crop.shape[0])
    return replace(blank, pixels=PixelCrop(encoded, "png", Box2D(0, 0, side, side)))
