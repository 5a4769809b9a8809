"""`replay export`: a run that is already there, for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import ConfigError, InputError
from replay.export.options import NAMES, names_of

if TYPE_CHECKING:
    from replay.running.folder import RunFolder
    from replay.running.plan import Job


def add_export_command(commands: Any) -> None:
    """Add it to the program's subparsers."""
    command = commands.add_parser("export", help="what is already run, for other programs")
    command.add_argument("run_folder", type=Path, metavar="RUN_FOLDER", help="the --out of a run, or one variant of it")
    command.add_argument("--as", dest="names", required=True, metavar="NAME[,NAME]", help=NAMES)
    command.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from fusion.task import Task
    from replay.export.registry import export, exporter
    from replay.outputs import collect, openers

    names = names_of(arguments.names)
    if not names:
        raise ConfigError(f"--as names nothing; give {NAMES}")
    for name in names:
        exporter(name)
    for folder in _folders(arguments.run_folder):
        manifest = folder.manifest()
        task = Task.load(manifest.task)
        jobs = _ended(folder, manifest.jobs)
        results = collect(task, jobs, manifest.variant, folder)
        for line in export(names, results, openers(task, jobs), folder.path):
            print(line)


def _ended(folder: RunFolder, jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those that were run to their end; the others are told. Raises `InputError` where there are none."""
    ended = tuple(job for job in jobs if folder.done(job.name))
    if not ended:
        raise InputError(f"{folder.path}: none of its recordings was run to its end; run it first")
    for job in jobs:
        if job not in ended:
            print(f"{job.name}: was not run to its end, so it is left out", file=sys.stderr)
    return ended


def _folders(path: Path) -> list[RunFolder]:
    """The run's folder, or those of its variants. Raises `InputError` where there is none."""
    from replay.running.folder import MANIFEST_NAME, RunFolder

    if (path / MANIFEST_NAME).is_file():
        return [RunFolder(path)]
    found = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST_NAME}"))
    if not found:
        raise InputError(f"{path}: no {MANIFEST_NAME} in it or in a folder of it; give the --out of a run")
    return [RunFolder(one) for one in found]
