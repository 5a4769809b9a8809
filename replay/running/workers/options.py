"""The command line's options about who runs a plan, and how much is told."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fusion.errors import ConfigError

if TYPE_CHECKING:
    from replay.running.run import Engine


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """`--workers`, `--engine`, `--ray-address`, `--again`, `--quiet`."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="recordings at once (default: 1)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="processes here, or Ray actors")
    parser.add_argument(
        "--ray-address", default="", metavar="ADDRESS", help="of a Ray cluster; default: one of its own"
    )
    parser.add_argument("--again", action="store_true", help="run what is done already, too")
    parser.add_argument("--quiet", action="store_true", help="tell no progress")


def engine_of(arguments: argparse.Namespace) -> Engine:
    """What they say. Raises `ConfigError`."""
    from replay.running.run import Engine

    if arguments.workers < 1:
        raise ConfigError(f"--workers {arguments.workers}: give 1 or more")
    if arguments.ray_address and arguments.engine != "ray":
        raise ConfigError("--ray-address is for --engine ray")
    return Engine(arguments.engine, arguments.workers, arguments.ray_address, arguments.again, arguments.quiet)
