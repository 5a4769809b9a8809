"""A whole run: every recording that is not done yet, then what came of all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, check
from replay.running.player import play


def run(plan: Plan, out: Path) -> None:
    """Run what is not done in `out` yet. Raises `FusionError`."""
    check(plan)
    folders = [(variant, RunFolder.of(out, variant)) for variant in plan.variants]
    for variant, folder in folders:
        folder.write_manifest(plan, variant, "both")
    models = LoadedModels()
    for job in plan.jobs:
        waiting = tuple(one for one, folder in folders if not folder.is_done(job.name, plan.key(job, one)))
        if waiting:
            left = replace(plan, variants=waiting)
            play(left, job, out, models)
            _mark(left, job, out)


def _mark(plan: Plan, job: Job, out: Path) -> None:
    for variant in plan.variants:
        RunFolder.of(out, variant).mark_done(job.name, plan.key(job, variant))
