"""`edge-node`: run the daemon on a device, and ask its spool how things stand."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_node.inspection.arguments import add_spool
from fusion.console import add_overrides, guarded, whole_number

_EXIT_CODES = (
    "exit codes: 0 done or drained, 2 configuration, 3 recording or input, 4 models, "
    "5 service or port not there, 6 protocol, 7 spool, 70 a defect, 130 interrupted"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("edge-node", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-node", description=__doc__, epilog=_EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="screen a source and send what deserves a closer look", epilog=_EXIT_CODES)
    run.add_argument("--config", type=Path, required=True, help="edge.toml")
    add_overrides(run)
    run.add_argument("--until-done", action="store_true", help="end once the source ended and all is answered")
    run.add_argument("--summary", type=Path, help="write what the run came to as JSON")
    run.set_defaults(run=_run)
    _add_calibrate(commands)
    status = commands.add_parser("status", help="the ledger of a spool, also while a daemon runs")
    status.add_argument("--config", type=Path, required=True, help="edge.toml")
    add_overrides(status)
    status.set_defaults(run=_status)
    add_spool(commands)
    _add_doctor(commands)
    _add_bench(commands)
    top = commands.add_parser("top", help="a running daemon's figures, live on a terminal", epilog=_EXIT_CODES)
    top.add_argument("--url", default="http://127.0.0.1:9464", help="the daemon's metrics.listen; default: %(default)s")
    top.add_argument("--once", action="store_true", help="print one snapshot, over one interval, and end")
    top.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two readings")
    top.set_defaults(run=_top)
    return parser


def _top(arguments: argparse.Namespace) -> None:
    from fusion.errors import ConfigError

    try:
        from edge_node.top.command import top
    except ModuleNotFoundError as error:
        raise ConfigError(f"top: {error.name} is not installed; install fusion-stack[edge]") from None
    top(arguments.url, once=arguments.once, interval_s=arguments.interval)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="measure what a sample costs on this machine", epilog=_EXIT_CODES)
    bench.add_argument("recording", type=Path, nargs="?", help="default: the configuration's, or the bundled one")
    bench.add_argument("--config", type=Path, help="edge.toml; default: the bundled task and recording")
    add_overrides(bench)
    bench.add_argument("--samples", type=whole_number, default=0, help="measure at most so many; default: all")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    bench.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> None:
    from edge_node.bench.command import bench
    from edge_node.defaults import settings_or_bundled

    settings = settings_or_bundled(arguments.config, arguments.overrides)
    _log_to_stderr(settings.log_level)
    if arguments.json:
        _writable("--json", arguments.json)
    bench(settings, recording=arguments.recording, samples=arguments.samples, out=arguments.json)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor", help="check this machine, and try which engine serves it best", epilog="exit code 1: a check failed"
    )
    doctor.add_argument("--config", type=Path, help="edge.toml; default: the bundled task and recording")
    add_overrides(doctor)
    doctor.add_argument("--recording", type=Path, help="try the engines on this one; default: the task's bundled one")
    doctor.add_argument("--samples", type=whole_number, default=30, help="of the recording, at most")
    doctor.add_argument("--write", type=Path, metavar="FILE", help="write the chosen [engine] table there")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from edge_node.defaults import settings_or_bundled
    from edge_node.doctor.command import doctor

    settings = settings_or_bundled(arguments.config, arguments.overrides)
    return doctor(settings, recording=arguments.recording, samples=arguments.samples, write=arguments.write)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: give seconds, 0.1 to 3600")
    return found


def _add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    calibrate = commands.add_parser(
        "calibrate", help="set the screening threshold so that few defects are missed", epilog=_EXIT_CODES
    )
    calibrate.add_argument("recordings", type=Path, nargs="+", help="with truth; a folder stands for the .mcap in it")
    calibrate.add_argument("--config", type=Path, required=True, help="edge.toml")
    add_overrides(calibrate)
    calibrate.add_argument("--alpha", type=float, default=0.05, help="share of defects that may be missed; 0..1")
    calibrate.add_argument("--per-minute", type=float, default=float("inf"), help="reviews a minute, at most")
    calibrate.add_argument("--share", type=float, default=1.0, help="of all items that may be sent; 0..1")
    calibrate.add_argument("--visibility", type=float, default=0.5, help="a defect counts from this share in view on")
    calibrate.add_argument("--side", type=float, default=12.0, help="... and this many pixels across")
    calibrate.add_argument("-o", "--out", type=Path, default=Path("screening.json"))
    calibrate.set_defaults(run=_calibrate)


def _calibrate(arguments: argparse.Namespace) -> None:
    from edge_node.calibration.choosing import Wanted
    from edge_node.calibration.command import calibrate
    from edge_node.calibration.watching import Visible
    from edge_node.config import EdgeSettings
    from fusion.config import load_toml
    from fusion.errors import ConfigError

    settings = load_toml(arguments.config, EdgeSettings, arguments.overrides)
    _log_to_stderr(settings.log_level)
    if not 0 < arguments.alpha < 1:
        raise ConfigError(f"--alpha {arguments.alpha:g}: a share between 0 and 1")
    for option, share in (("--share", arguments.share), ("--visibility", arguments.visibility)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{option} {share:g}: a share from 0 to 1")
    if not arguments.per_minute >= 0:
        raise ConfigError(f"--per-minute {arguments.per_minute:g}: reviews a minute, 0 or more")
    if not 0 <= arguments.side < math.inf:
        raise ConfigError(f"--side {arguments.side:g}: pixels, 0 or more")
    _writable("--out", arguments.out)
    found = [sorted(path.glob("*.mcap")) if path.is_dir() else [path] for path in arguments.recordings]
    wanted = Wanted(arguments.alpha, arguments.per_minute, arguments.share)
    visible = Visible(arguments.visibility, arguments.side)
    calibrate(settings, [path for each in found for path in each], arguments.out, wanted, visible)


def _run(arguments: argparse.Namespace) -> None:
    from edge_node.compose import compose
    from edge_node.config import EdgeSettings
    from fusion.config import load_toml

    settings = load_toml(arguments.config, EdgeSettings, arguments.overrides)
    _log_to_stderr(settings.log_level)
    if arguments.summary:
        _writable("--summary", arguments.summary)
    daemon = compose(settings, until_done=arguments.until_done)
    try:
        daemon.run()
    finally:
        if arguments.summary and daemon.summary:
            arguments.summary.write_text(json.dumps(daemon.summary, indent=1) + "\n", encoding="utf-8")


def _status(arguments: argparse.Namespace) -> None:
    from edge_node.config import EdgeSettings
    from edge_node.miss_rate import miss_rate
    from edge_node.status import spool_status
    from fusion.config import load_toml
    from fusion.task import Task

    settings = load_toml(arguments.config, EdgeSettings, arguments.overrides)
    for line in spool_status(settings.spool.path):
        print(line)
    told = miss_rate(settings.spool.path, Task.load(settings.task))
    print(f"share of defects missed, by the lottery: {told}")


def _writable(option: str, path: Path) -> None:
    from fusion.errors import ConfigError

    known = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if not known:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written ({error.strerror})") from None


def _log_to_stderr(level: str) -> None:
    import logging

    logging.basicConfig(level=level.upper(), format="edge-node: %(message)s", stream=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
