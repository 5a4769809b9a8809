"""`replay`: run recordings through both nodes, and show what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion.console import add_overrides, guarded
from replay.compare.options import add_compare_commands
from replay.export.options import add_export_command, add_export_options, exports_of
from replay.running.modes.options import add_mode_options, mode_of
from replay.running.options import add_engine_options, engine_of
from replay.sources.options import SourceOptions, add_source_options
from replay.whatif.commands import add_grid_commands

_HEADLINES = (
    ("damaged", "recordings of which only what is sound was run"),
    ("samples", "samples"),
    ("items", "items"),
    ("reviewed", "reviewed"),
    ("waiting", "waiting for a service"),
    ("lost", "lost"),
    ("duplicates", "duplicates"),
    ("edge_ms_p50", "edge, ms (median)"),
    ("edge_ms_p99", "edge, ms (p99)"),
    ("evidence_bytes_p50", "evidence, bytes an item (median)"),
    ("defects", "defects that came into view"),
    ("defects_missed", "of which missed"),
    ("detector_map50", "detector mAP50"),
    ("verdict_accuracy_n", "escalated items with truth"),
    ("verdict_accuracy", "all slots right: reviewer"),
    ("verdict_accuracy_edge_fused", "all slots right: device, fused"),
    ("verdict_accuracy_detector_only", "all slots right: detector only"),
)
_LIVE_HEADLINES = (
    ("lag_ms_p50", "behind the pace, ms (median)"),
    ("lag_ms_p99", "behind the pace, ms (p99)"),
    ("behind_pace", "frames taken too late"),
    ("would_drop", "frames a live sensor would lose"),
    ("gap_reasons", "frames in gaps, by reason"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("replay", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
    demo = commands.add_parser("demo", help="both nodes as real processes on the bundled recording")
    demo.add_argument("recording", type=Path, nargs="?", help="default: the bundled held-out patrol")
    demo.add_argument("--task", default="yard")
    demo.add_argument("--out", type=Path, default=Path("out/demo"))
    demo.add_argument("--pace", default="realtime", help="realtime, flat-out or a factor")
    demo.set_defaults(run=_demo)
    add_export_command(commands)
    add_grid_commands(commands)
    add_compare_commands(commands)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from fusion.task import Task
    from replay.live.paced import facts
    from replay.outputs import collect, openers, write_outputs
    from replay.running.destination import Destination
    from replay.running.folder import RunFolder
    from replay.running.modes.mode import Mode
    from replay.running.modes.recorded import jobs_of_evidence
    from replay.running.plan import Plan, Variant
    from replay.running.run import run
    from replay.running.sources import jobs_of

    variant = Variant(models=arguments.models, reviewer=arguments.reviewer, sets=tuple(arguments.overrides))
    exports, options, (mode, live) = exports_of(arguments), SourceOptions.of(arguments), mode_of(arguments)
    if mode is Mode.CLOUD_ONLY:
        jobs = jobs_of_evidence(arguments.sources, arguments.task)
    else:
        jobs = jobs_of(arguments.sources, options=options, task=Task.load(arguments.task))
    plan, out = Plan(arguments.task, jobs, (variant,), mode, live), Destination.of(arguments.out)
    failures = run(plan, out.folder, engine_of(arguments))
    ran, folder = failures.ran(jobs), RunFolder.of(out.folder, variant)
    results = collect(plan.task, ran, variant, folder, facts(plan, folder))
    write_outputs(results, openers(plan.task, ran), out.folder, exports=exports)
    _tell(results.summary)
    out.upload()
    failures.check(results.recordings)


def _demo(arguments: argparse.Namespace) -> None:
    from replay.live.demo import demo

    pace = arguments.pace if arguments.pace in ("realtime", "flat-out") else float(arguments.pace)
    results = demo(arguments.recording, arguments.out, task_name=arguments.task, pace=pace)
    _tell(results.summary)


def _tell(summary: Mapping[str, float | int | str | None]) -> None:
    from replay.whatif.figures import told

    live = tuple((name, text) for name, text in _LIVE_HEADLINES if name in summary)
    lines = (*_HEADLINES, *live, *told(summary))
    width = max(len(text) for _, text in lines)
    for name, text in lines:
        value = summary.get(name)
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"{text:<{width}}  {shown}")


if __name__ == "__main__":
    sys.exit(main())
