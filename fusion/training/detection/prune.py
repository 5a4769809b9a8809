"""`fusion prune`: a detector with fewer channels, trained on, and a table of what that cost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.training.detection.checkpoint import SUFFIX, read_checkpoint, write_checkpoint
from fusion.training.detection.pruning import prune
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.runs import check_run, decides, keep_recipe, told_in
from fusion.training.detection.train import train_detector
from fusion.training.detection.validation import check_classes, measure_checkpoint

TABLE_NAME = "prune.json"
WHOLE, CUT, TRAINED_ON = "whole", "pruned", "pruned and trained on"


def prune_detector(
    data_yaml: Path, start: Path, share: float, out: Path, recipe: DetectorRecipe, *, resume: bool = False
) -> dict[str, dict[str, Any]]:
    """Take `share` of the prunable channels out of the checkpoint `start`, train on under `out` by `recipe`, and write
    the table there; returns the table. With `recipe.epochs` 0 nothing is trained.

    Raises `ModelError` for a checkpoint that cannot be pruned or knows other classes, `ConfigError` for a share outside
    0..1 and for an `out` that holds weights already, those of `start` or, with `resume`, those of another share or
    recipe.
    """
    network = read_checkpoint(start)
    check_classes(network, start, data_yaml)
    decided = decides(replace(recipe, start=str(start)), data_yaml, share=share)
    begun = check_run(out, decided, start=str(start), resume=resume)
    channels = prune(network, share)
    if not begun:
        keep_recipe(out, decided)
    smaller = write_checkpoint(network, out / f"pruned{SUFFIX}")
    rows = {
        WHOLE: measure_checkpoint(start, data_yaml, recipe, out)
        | {"trained": {"from": f"the checkpoint {start.name}"}},
        CUT: measure_checkpoint(smaller, data_yaml, recipe, out) | {"share": share, "channels": channels},
    }
    _write(rows, out)
    if recipe.epochs:
        started = time.monotonic()
        recipe = replace(recipe, architecture="", start=str(smaller))
        ours = {name: decided[name] for name in ("share", "start")}  # that is cut anew each time
        weights = train_detector(data_yaml, out / "trained", recipe, resume=resume, decided_by=ours)
        how = told_in(out, recipe) | {"minutes": round((time.monotonic() - started) / 60, 1)}
        rows[TRAINED_ON] = measure_checkpoint(weights, data_yaml, recipe, out) | {"trained": how}
        _write(rows, out)
    return rows


def _write(rows: dict[str, dict[str, Any]], out: Path) -> None:
    (out / TABLE_NAME).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
