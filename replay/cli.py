"""`replay`: run recordings through both nodes, and show what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion.console import add_overrides, guarded
from replay.compare.options import add_compare_commands

_HEADLINES = (
    ("samples", "samples"),
    ("items", "items"),
    ("reviewed", "reviewed"),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("replay", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="recordings through both nodes in one process, deterministic")
    run.add_argument("sources", nargs="+", metavar="SOURCE", help="a recording, or a folder of labelled pictures")
    run.add_argument("--task", default="yard")
    run.add_argument("--split", default="", help="of a folder of pictures: SPLIT.txt, test when left out")
    run.add_argument("--out", type=Path, default=Path("out/run"))
    run.add_argument("--reviewer", default="", help="default: mini:TASK")
    run.add_argument("--models", default="", help="a model folder; default: the bundled one")
    run.add_argument("--no-scene", action="store_true", help="write no Rerun file")
    add_overrides(run)
    run.set_defaults(run=_run)
    demo = commands.add_parser("demo", help="both nodes as real processes on the bundled recording")
    demo.add_argument("recording", type=Path, nargs="?", help="default: the bundled held-out patrol")
    demo.add_argument("--task", default="yard")
    demo.add_argument("--out", type=Path, default=Path("out/demo"))
    demo.add_argument("--pace", default="realtime", help="realtime, flat-out or a factor")
    demo.set_defaults(run=_demo)
    add_compare_commands(commands)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from replay.outputs import collect, openers, write_outputs
    from replay.running.folder import RunFolder
    from replay.running.plan import Plan, Variant
    from replay.running.run import run
    from replay.running.sources import jobs_of

    variant = Variant(models=arguments.models, reviewer=arguments.reviewer, sets=tuple(arguments.overrides))
    plan = Plan(arguments.task, jobs_of(arguments.sources, arguments.split), (variant,))
    run(plan, arguments.out)
    results = collect(plan.task, plan.jobs, variant, RunFolder.of(arguments.out, variant))
    write_outputs(results, openers(plan.task, plan.jobs), arguments.out, scene=not arguments.no_scene)
    _tell(results.summary)


def _demo(arguments: argparse.Namespace) -> None:
    from replay.live.demo import demo

    pace = arguments.pace if arguments.pace in ("realtime", "flat-out") else float(arguments.pace)
    results = demo(arguments.recording, arguments.out, task_name=arguments.task, pace=pace)
    _tell(results.summary)


def _tell(summary: Mapping[str, float | int | str | None]) -> None:
    width = max(len(text) for _, text in _HEADLINES)
    for name, text in _HEADLINES:
        value = summary.get(name)
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"{text:<{width}}  {shown}")


if __name__ == "__main__":
    sys.exit(main())
