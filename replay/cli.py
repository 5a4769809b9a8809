"""`replay`: run recordings through both nodes, and show what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.console import guarded
from fusion.errors import ConfigError
from replay.commands.compare import add_compare_commands
from replay.commands.export import add_export_command
from replay.commands.grid import add_grid_commands
from replay.commands.run import add_run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("replay", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_run_command(commands)
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


def _demo(arguments: argparse.Namespace) -> None:
    from replay.commands.headlines import tell
    from replay.live.demo import demo

    try:
        pace = arguments.pace if arguments.pace in ("realtime", "flat-out") else float(arguments.pace)
    except ValueError:
        raise ConfigError(f"--pace {arguments.pace}: give a factor, realtime or flat-out") from None
    results = demo(arguments.recording, arguments.out, task_name=arguments.task, pace=pace)
    tell(results.summary)


if __name__ == "__main__":
    sys.exit(main())
