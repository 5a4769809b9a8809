"""`replay run`: its options, and what it does with them."""

from __future__ import annotations

import argparse
from typing import Any

from fusion.console import add_overrides
from replay.export.options import add_export_options, exports_of
from replay.running.modes.options import add_mode_options, mode_of
from replay.running.workers.options import add_engine_options, engine_of
from replay.sources.options import SourceOptions, add_source_options, refuse_source_options


def add_run_command(commands: Any) -> None:
    """Add it to the program's subparsers."""
    run = commands.add_parser("run", help="recordings through both nodes in one process, deterministic")
    run.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="recordings, folders of them, patterns, URLs; or recorded evidence"
    )
    run.add_argument("--task", default="yard")
    add_source_options(run)
    run.add_argument("--out", default="out/run", help="a folder, or PROTOCOL://… of an object store")
    run.add_argument("--reviewer", default="", help="default: mini:TASK")
    run.add_argument("--models", default="", help="a model folder; default: the bundled one")
    add_export_options(run)
    add_overrides(run)
    add_engine_options(run)
    add_mode_options(run)
    run.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from fusion.task import Task
    from replay.commands.headlines import tell
    from replay.live.paced import facts
    from replay.outputs import collect, openers, write_outputs
    from replay.running.destination import Destination
    from replay.running.folder import RunFolder
    from replay.running.modes.mode import Mode
    from replay.running.modes.recorded import jobs_of_evidence
    from replay.running.plan import Plan, Variant, check
    from replay.running.run import run
    from replay.running.workers.lock import locked
    from replay.sources.jobs import jobs_of

    variant = Variant(models=arguments.models, reviewer=arguments.reviewer, sets=tuple(arguments.overrides))
    exports, options, (mode, live) = exports_of(arguments), SourceOptions.of(arguments), mode_of(arguments)
    if mode is Mode.CLOUD_ONLY:
        refuse_source_options(arguments, "recorded evidence is reviewed as it is with --cloud-only")
        jobs = jobs_of_evidence(arguments.sources, arguments.task)
    else:
        jobs = jobs_of(arguments.sources, options=options, task=Task.load(arguments.task))
    plan, out = Plan(arguments.task, jobs, (variant,), mode, live), Destination.of(arguments.out)
    engine = engine_of(arguments)
    check(plan)  # before there is a folder
    with locked(out.folder) as held:
        failures = run(plan, out.folder, engine, held)
        ran, folder = failures.ran(jobs), RunFolder.of(out.folder, variant)
        results = collect(plan.task, ran, variant, folder, facts(replace(plan, jobs=ran), folder))
        write_outputs(results, openers(plan.task, ran), out.folder, exports=exports)
        tell(results.summary)
        out.upload()
    failures.check(results.recordings)
