"""`replay grid` and `replay scenarios`: their options, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.console import add_overrides
from fusion.errors import ConfigError
from replay.running.workers.options import add_engine_options, engine_of
from replay.sources.options import SourceOptions, add_source_options

if TYPE_CHECKING:
    from fusion.task import Task
    from replay.running.plan import Variant
    from replay.whatif.scenarios import Choice, Scenarios


def add_grid_commands(commands: Any) -> None:
    """Add both to the program's subparsers."""
    grid = commands.add_parser("grid", help="many variants of a run at once: a table, and what nothing beats")
    grid.add_argument("sources", nargs="*", metavar="SOURCE", help="default: the task's bundled recording")
    grid.add_argument("--task", default="yard")
    add_source_options(grid)
    grid.add_argument("--out", default="out/grid")
    add_grid_options(grid)
    add_overrides(grid)
    add_engine_options(grid)
    grid.set_defaults(run=_grid)
    listed = commands.add_parser("scenarios", help="list named scenarios")
    listed.add_argument("--scenarios", type=Path, metavar="FILE", help="default: those that come with the tool")
    listed.add_argument("--task", default="", help="only those for it, their keys checked")
    listed.set_defaults(run=_scenarios)


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """What `grid` takes beside the options of a run."""
    parser.add_argument("--scenarios", type=Path, metavar="FILE", help="TOML; default: those that come with the tool")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the file, by name or pattern")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=V1,V2", help="a setting's values; several: each with each"
    )
    parser.add_argument("--most", type=int, default=0, help="points of a grid at most; default: 64")
    parser.add_argument("--reviewer", default="", help="of all variants that name none; default: mini:TASK")
    parser.add_argument("--models", default="", help="a model folder, of all variants that name none")
    parser.add_argument("--reports", action="store_true", help="a report and a Rerun file of every variant, too")


def _grid(arguments: argparse.Namespace) -> None:
    from fusion.task import Task
    from replay.live.demo import bundled_recording
    from replay.running.plan import Plan, Variant
    from replay.sources.jobs import jobs_of
    from replay.whatif.grid.files import write_grid
    from replay.whatif.grid.page import write_page
    from replay.whatif.grid.run import run_grid
    from replay.whatif.grid.wording import sentence, table

    if "://" in arguments.out:
        raise ConfigError(f"--out {arguments.out}: a grid needs a folder on a disk; copy it from there afterwards")
    task, out = Task.load(arguments.task), Path(arguments.out)
    common = Variant(models=arguments.models, reviewer=arguments.reviewer, sets=tuple(arguments.overrides))
    choices = choices_of(task, common, arguments)
    sources = arguments.sources or [str(bundled_recording(task.name))]
    jobs = jobs_of(sources, options=SourceOptions.of(arguments), task=task)
    plan = Plan(arguments.task, jobs, tuple(choice.variant for choice in choices))
    grid, check = run_grid(plan, choices, out, engine_of(arguments), reports=arguments.reports)
    written = write_grid(grid, out) + write_page(grid, out, reports=arguments.reports)
    print(table(grid))
    print()
    for row in grid.rows:
        print(sentence(row, grid.base))
    print()
    for path in written:
        print(f"wrote {path}")
    check()


def choices_of(task: Task, common: Variant, arguments: argparse.Namespace) -> list[Choice]:
    """The base, then what the file and `--vary` ask for.

    Without a file, the bundled scenarios: all where nothing is varied, else those that `--only` names. Raises
    `ConfigError`.
    """
    from replay.whatif.product import MOST, named_product, read_axis
    from replay.whatif.scenarios import BASE, Choice, Scenarios, check_choice, picked

    base = Choice(common.model_copy(update={"name": BASE}))
    found = [base]
    check_choice(task, base, "")
    varied: dict[str, list[Any]] = {}
    for key, values in map(read_axis, arguments.vary):
        if key in varied:
            raise ConfigError(f"--vary {key}: given twice; give all its values in one, as {key}=A,B,C")
        varied[key] = values
    if arguments.only or arguments.scenarios or not varied:
        file = Scenarios.load(arguments.scenarios) if arguments.scenarios else Scenarios.bundled()
        found += picked(file.choices(task, common, arguments.most or MOST), arguments.only, str(file.path.name))
    for point in named_product(varied, arguments.most or MOST):
        found.append(check_choice(task, Choice.of(common, point), "--vary"))
    return found


def _scenarios(arguments: argparse.Namespace) -> None:
    from fusion.task import Task
    from replay.running.plan import Variant
    from replay.whatif.scenarios import Scenarios

    file = Scenarios.load(arguments.scenarios) if arguments.scenarios else Scenarios.bundled()
    if not arguments.task:
        _list([(name, one.about, one.set, one.tasks) for name, one in file.named.items()])
        _tell_grid(file)
        return
    task = Task.load(arguments.task)
    choices = file.choices(task, Variant())
    _list([(one.variant.name, one.about, one.variant.sets, ()) for one in choices])


def _list(rows: Sequence[tuple[str, str, Sequence[str], Sequence[str]]]) -> None:
    for name, about, sets, tasks in rows:
        only = f" (only {', '.join(tasks)})" if tasks else ""
        print(f"{name}{only}{': ' if about else ''}{about}")
        for one in sets:
            print(f"    {one}")


def _tell_grid(file: Scenarios) -> None:
    for key, values in file.grid.items():
        print(f"grid: {key} = {', '.join(map(str, values))}")
