"""A grid from start to end: every variant of every recording, then what each came to beside the base."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge_node.models import model_folder
from replay.outputs import collect, openers, write_outputs
from replay.report.wording import count
from replay.results import file
from replay.results.records import RunResults
from replay.running.failures import Failures
from replay.running.folder import RunFolder
from replay.running.plan import Plan, Variant, check
from replay.running.run import Engine, run
from replay.running.workers.lock import locked
from replay.whatif.grid.differences import differences
from replay.whatif.grid.measures import row_of
from replay.whatif.grid.records import Grid, GridRow
from replay.whatif.pareto import front
from replay.whatif.scenarios import Choice

SUMMARY_NAME = "summary.json"


def run_grid(
    plan: Plan, choices: Sequence[Choice], out: Path, engine: Engine, *, reports: bool = False
) -> tuple[Grid, Callable[[], None]]:
    """Run what is not done in `out` yet; the first of `choices`, which are `plan.variants`, is the base.

    Each variant has its usual folder in `out`, with a report and a scene only where `reports` asks for them. The grid
    is of the recordings that could be run; the check beside it raises what was wrong with others. Raises `FusionError`,
    for wrong settings and models that are not there before anything runs.
    """
    check(plan)
    for variant in plan.variants:
        model_folder(plan.task, variant.models)
    with locked(out) as held:
        return _ran(plan, choices, out, run(plan, out, engine, held), reports=reports)


def _ran(
    plan: Plan, choices: Sequence[Choice], out: Path, failures: Failures, *, reports: bool
) -> tuple[Grid, Callable[[], None]]:
    plan = replace(plan, jobs=failures.ran(plan.jobs))
    base, rows = None, []
    for choice in choices:
        results = results_of(plan, choice.variant, out, reports=reports)
        digest = _written(results, RunFolder.of(out, choice.variant).path)
        row = row_of(results, choice.variant.name, choice.about, digest, _common(choices))
        if base is None:
            base = results
        else:
            row = replace(row, differences=differences(base, results))
        rows.append(row)
    assert base is not None
    names, seconds = tuple(one.name for one in base.recordings), sum(one.seconds for one in base.recordings)
    return Grid(plan.task.name, names, round(seconds, 3), tuple(mark_best(rows))), partial(
        failures.check, base.recordings
    )


def results_of(plan: Plan, variant: Variant, out: Path, *, reports: bool) -> RunResults:
    """One variant's results; what pictures of the sent items would weigh is told only with `reports`."""
    folder = RunFolder.of(out, variant)
    results = collect(plan.task, plan.jobs, variant, folder, with_pictures=reports)
    if reports:
        write_outputs(results, openers(plan.task, plan.jobs), folder.path)
    return results


def mark_best(rows: Sequence[GridRow]) -> list[GridRow]:
    """The rows, each knowing whether nothing beats it in misses, bytes and reviews at once."""
    objectives = ("missed_share", "bytes_sent", "reviews")
    known = [name for name in objectives if all(row.number(name) is not None for row in rows)]
    points = [[row.number(name) or 0.0 for name in known] for row in rows]
    return [replace(row, best=bool(kept)) for row, kept in zip(rows, front(points), strict=True)]


def title(grid: Grid) -> str:
    """What was run, in a few words."""
    recordings = grid.recordings[0] if len(grid.recordings) == 1 else f"{count(len(grid.recordings))} recordings"
    return f"{recordings}, {len(grid.rows)} variants"


def _common(choices: Sequence[Choice]) -> list[str]:
    """Keys that all variants set alike: nothing to tell them apart by."""
    given = [choice.variant.settings for choice in choices]
    return [key for key, value in given[0].items() if all(one.get(key) == value for one in given)]


def _written(results: RunResults, folder: Path) -> str:
    (folder / SUMMARY_NAME).write_text(json.dumps(dict(results.summary), indent=1) + "\n", encoding="utf-8")
    return file.write_results(results, folder / file.NAME)
