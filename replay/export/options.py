"""Which exports a run is to write: `--export NAME,NAME`, and `--no-scene`."""

from __future__ import annotations

import argparse

NAMES = "rerun, parquet, mcap, coco, kitti, nuscenes, or any that is installed"


def add_export_options(run: argparse.ArgumentParser) -> None:
    """What `replay run` can be told of exports."""
    run.add_argument("--no-scene", action="store_true", help="write no Rerun file")
    run.add_argument("--export", default="", metavar="NAME[,NAME]", help=f"write these, too: {NAMES}")


def exports_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The names `replay run` is to write, each once. Raises `ConfigError` for one that is none."""
    from replay.export.registry import SCENE, exporter

    scene = () if arguments.no_scene else (SCENE,)
    names = tuple(dict.fromkeys((*scene, *names_of(arguments.export))))
    for name in names:
        exporter(name)
    return names


def names_of(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
