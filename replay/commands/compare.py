"""`replay compare` and `replay golden` on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EXIT_CODES = (
    "ends with 0 when nothing is beyond tolerance, 1 when something is, 2 for wrong settings, 3 for a wrong file"
)


def add_compare_commands(commands: Any) -> None:
    """Both commands, to the subparsers of `replay`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare", help="what changed between two runs, and whether more than is allowed", epilog=_EXIT_CODES
    )
    parser.add_argument("before", type=Path, metavar="A", help="a run's folder, results.json or golden file")
    parser.add_argument("after", type=Path, metavar="B", help="the same of the run to judge")
    _add_task(parser)
    parser.add_argument("--tolerances", type=Path, help="a TOML file; default: the bundled one")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything for programs")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with pictures of what changed")
    parser.set_defaults(run=run_compare)
    golden: argparse.ArgumentParser = commands.add_parser("golden", help="keep a run's results as a small file")
    golden.add_argument("source", type=Path, metavar="RUN", help="a run's folder or its results.json")
    golden.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="gzipped when it ends with .gz")
    _add_task(golden)
    golden.set_defaults(run=run_golden)


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", default="", help="a name or a file; default: what a run's folder tells, else the bundled one"
    )


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare and tell; the exit code."""
    from replay.compare.comparison import compare
    from replay.compare.sides import read_side
    from replay.compare.told import lines, write_json
    from replay.compare.tolerances import Tolerances

    tolerances = Tolerances.load(arguments.tolerances)
    found = compare(read_side(arguments.before, arguments.task), read_side(arguments.after, arguments.task), tolerances)
    for line in lines(found):
        print(line)
    if arguments.json:
        write_json(found, arguments.json)
        print(f"wrote {arguments.json}")
    if arguments.html:
        from replay.compare.page.page import write_page

        write_page(found, arguments.html)
        print(f"wrote {arguments.html}")
    return 0 if found.agrees else 1


def run_golden(arguments: argparse.Namespace) -> None:
    """Keep the file and say so."""
    from replay.compare.golden import write_golden

    size = write_golden(arguments.source, arguments.out, arguments.task)
    print(f"wrote {arguments.out}, {size} bytes")
