"""The command-line options that choose which nodes a run drives."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replay.running.modes.mode import LiveLink, Mode


def add_mode_options(parser: argparse.ArgumentParser) -> None:
    """`--edge-only`, `--cloud-only` or `--live HOST:PORT`, and what goes with the last."""
    group = parser.add_argument_group("modes", "without one of them, both nodes in one process")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--edge-only", action="store_true", help="the device alone; what it would send goes into an evidence file"
    )
    which.add_argument(
        "--cloud-only", action="store_true", help="the service alone; SOURCE is an evidence file or a run's folder"
    )
    which.add_argument(
        "--live", metavar="HOST:PORT", default="", help="a real edge daemon against the service that runs there"
    )
    group.add_argument(
        "--pace", type=_pace, metavar="N", help="with --live: times the recording's own speed, or flat-out; default 1"
    )
    group.add_argument("--tls-authority", type=Path, metavar="PEM", help="with --live: who signed the service")
    group.add_argument("--tls-certificate", type=Path, metavar="PEM", help="with --live: the device's certificate")
    group.add_argument("--tls-key", type=Path, metavar="PEM", help="with --live: its key")
    group.add_argument(
        "--tls-server-name", default="", metavar="NAME", help="with --live: the certificate's, if another"
    )


def mode_of(arguments: argparse.Namespace) -> tuple[Mode, LiveLink | None]:
    """What the options say. Raises `ConfigError` for those that do not go together."""
    from fusion.errors import ConfigError
    from replay.running.modes.mode import LiveLink, Mode

    tls = {
        name: value
        for name in ("authority", "certificate", "key", "server_name")
        if (value := getattr(arguments, f"tls_{name}"))
    }
    if not arguments.live:
        if tls or arguments.pace is not None:
            raise ConfigError("--pace and --tls-... go with --live HOST:PORT")
        mode = Mode.EDGE_ONLY if arguments.edge_only else Mode.CLOUD_ONLY if arguments.cloud_only else Mode.BOTH
        return mode, None
    if not re.fullmatch(r"\S+:\d{1,5}", arguments.live):
        raise ConfigError(f"--live {arguments.live}: give HOST:PORT of a running review service")
    if tls and "authority" not in tls:
        raise ConfigError("--tls-authority is missing; it names who signed the service's certificate")
    pace = 1.0 if arguments.pace is None else arguments.pace
    return Mode.LIVE, LiveLink.model_validate({"address": arguments.live, "pace": pace, "tls": tls or None})


def _pace(text: str) -> float:
    named = {"flat-out": math.inf, "realtime": 1.0}
    try:
        found = named[text] if text in named else float(text)
    except ValueError:
        found = 0.0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"{text}: give a factor of the recording's speed, realtime or flat-out")
    return found
