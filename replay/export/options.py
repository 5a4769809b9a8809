"""`--export` of a run, and the command `replay export` for a run that is already there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import ConfigError, InputError

if TYPE_CHECKING:
    from replay.running.folder import RunFolder

_NAMES = "rerun, parquet, mcap, coco, kitti, nuscenes, or any that is installed"


def add_export_options(run: argparse.ArgumentParser) -> None:
    """What `replay run` can be told of exports."""
    run.add_argument("--no-scene", action="store_true", help="write no Rerun file")
    run.add_argument("--export", default="", metavar="NAME[,NAME]", help=f"write these, too: {_NAMES}")


def add_export_command(commands: Any) -> None:
    """`replay export`."""
    command = commands.add_parser("export", help="what is already run, for other programs")
    command.add_argument("run_folder", type=Path, metavar="RUN_FOLDER", help="the --out of a run, or one variant of it")
    command.add_argument("--as", dest="names", required=True, metavar="NAME[,NAME]", help=_NAMES)
    command.set_defaults(run=_export)


def exports_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The names `replay run` is to write, each once. Raises `ConfigError` for one that is none."""
    from replay.export.registry import SCENE, exporter

    scene = () if arguments.no_scene else (SCENE,)
    names = tuple(dict.fromkeys((*scene, *_split(arguments.export))))
    for name in names:
        exporter(name)
    return names


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _export(arguments: argparse.Namespace) -> None:
    from fusion.task import Task
    from replay.export.registry import export, exporter
    from replay.outputs import collect, openers

    names = _split(arguments.names)
    if not names:
        raise ConfigError(f"--as names nothing; give {_NAMES}")
    for name in names:
        exporter(name)
    for folder in _folders(arguments.run_folder):
        manifest = folder.manifest()
        task = Task.load(manifest.task)
        results = collect(task, manifest.jobs, manifest.variant, folder)
        for line in export(names, results, openers(task, manifest.jobs), folder.path):
            print(line)


def _folders(path: Path) -> list[RunFolder]:
    """The run's folder, or those of its variants. Raises `InputError` where there is none."""
    from replay.running.folder import MANIFEST_NAME, RunFolder

    if (path / MANIFEST_NAME).is_file():
        return [RunFolder(path)]
    found = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST_NAME}"))
    if not found:
        raise InputError(f"{path}: no {MANIFEST_NAME} in it or in a folder of it; give the --out of a run")
    return [RunFolder(one) for one in found]
