"""`cloud-node`: the review service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.console import add_overrides, guarded

if TYPE_CHECKING:
    import asyncio

    from cloud_node.config import CloudSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    arguments = _parser().parse_args(argv)
    return guarded("cloud-node", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloud-node", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve reviews until SIGTERM, then drain; prints `ready on HOST:PORT`")
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="read the configuration, its certificates and its models, and say so")
    check.set_defaults(run=_check)
    doctor = commands.add_parser("doctor", help="is this machine fit to serve, and which batches suit it")
    doctor.set_defaults(run=_doctor)
    explain = commands.add_parser("explain", help="let a reviewer say why a stored verdict says what it says")
    explain.add_argument("--ledger", required=True, help="as in the configuration: a file or a URL")
    explain.add_argument("--item", required=True, metavar="DEVICE/EPOCH/SEQUENCE#ITEM")
    explain.add_argument("--reviewer", required=True, help="as in the configuration: hf:NAME-OR-PATH?task=TASK")
    explain.add_argument("--tokens", type=int, default=48, help="at most so many")
    _add_upgrade(explain)
    explain.set_defaults(run=_explain)
    _add_console_commands(commands)
    for command in (serve, check, doctor):
        command.add_argument("--config", type=Path, help="a TOML file; without one, the defaults")
        add_overrides(command)
    return parser


def _add_console_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    user = commands.add_parser("user", help="make or change a user of the console; the password comes from stdin")
    user.add_argument("name")
    user.add_argument("--role", choices=("viewer", "reviewer"), default="viewer", help="look, or also correct")
    user.add_argument("--file", type=Path, default=Path("users.json"), help="what console.users names")
    user.add_argument("--remove", action="store_true", help="take the user out of the file")
    user.set_defaults(run=_user)
    console = commands.add_parser("console", help="the console on a ledger, without the service")
    console.add_argument("--ledger", required=True, help="as `ledger` of cloud.toml")
    console.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of [console]",
    )
    _add_upgrade(console)
    console.set_defaults(run=_console)


def _add_upgrade(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--upgrade",
        action="store_true",
        help="bring a ledger of an earlier version up to date; earlier programs do not open it afterwards",
    )


def _settings(arguments: argparse.Namespace) -> CloudSettings:
    from cloud_node.config import CloudSettings
    from fusion.config import from_overrides, load_toml

    if arguments.config is None:
        return from_overrides(CloudSettings, arguments.overrides)
    return load_toml(arguments.config, CloudSettings, arguments.overrides)


def _serve(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)

    import asyncio

    from cloud_node.logs import start_log

    start_log(settings.log_level, settings.log_format, traced=bool(settings.trace.endpoint))
    asyncio.run(_serve_until_told(settings))
    _end_though_models_work()


async def _serve_until_told(settings: CloudSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; before the service is ready there is nothing to drain."""
    import asyncio
    import contextlib
    import signal

    told, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    serving = asyncio.create_task(_serve_and_drain(settings, told, ready))
    telling = asyncio.create_task(told.wait())
    await asyncio.wait([serving, telling], return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if serving.done() or ready.is_set():
        await serving
        return
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve_and_drain(settings: CloudSettings, told: asyncio.Event, ready: asyncio.Event) -> None:
    import asyncio

    from cloud_node.server import CloudService

    async with CloudService(settings).running() as service:
        ready.set()
        print(f"ready on {settings.listen.rpartition(':')[0]}:{service.port}", flush=True)
        if settings.console.listen:
            print(f"console on {settings.console.address(service.console_port)}", flush=True)
        failure = asyncio.create_task(service.failure())
        await asyncio.wait([asyncio.create_task(told.wait()), failure], return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            await failure
        failure.cancel()
        await service.drain()


def _end_though_models_work() -> None:
    """End the process if a thread still loads a model or reviews: it cannot be interrupted, and Python would tear down
    what it works with.
    """
    import logging
    import os
    import threading

    if any(thread.name.startswith("review") for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _check(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)

    from cloud_node.console.serving import check_files
    from cloud_node.ledger import without_password
    from cloud_node.roster import Roster
    from fusion.review import load_reviewer
    from fusion.wire.channel import server_credentials

    if settings.tls is not None:
        server_credentials(settings.tls)
        print(f"tls: {settings.tls.certificate}" + (", devices need certificates" if settings.tls.client_ca else ""))
    for name in settings.reviewers:
        (reviewer,) = Roster([load_reviewer(name)]).reviewers
        print(f"reviewer {name}: {reviewer.name}, task {reviewer.task.name}, {len(reviewer.profiles)} profile(s)")
    print(f"ledger: {without_password(settings.ledger)}")
    if settings.console.listen:
        check_files(settings.console)
        print(f"console: {settings.console.listen}, {settings.console.users or 'whoever is on this machine'}")
    print(f"would listen on {settings.listen}")


def _explain(arguments: argparse.Namespace) -> None:
    from contextlib import closing

    from cloud_node.explaining import explain_item
    from cloud_node.ledger import open_reader
    from fusion.errors import ConfigError
    from fusion.review import load_reviewer
    from fusion.types import ItemId

    if arguments.tokens < 1:
        raise ConfigError(f"--tokens {arguments.tokens}: give 1 or more")
    item = ItemId.parse(arguments.item)
    with closing(open_reader(arguments.ledger, upgrade=arguments.upgrade)) as reader:
        print(explain_item(reader, load_reviewer(arguments.reviewer), item, arguments.tokens))


def _user(arguments: argparse.Namespace) -> None:
    from cloud_node.console.command import remove_user, set_user
    from cloud_node.console.users import Role

    if arguments.remove:
        remove_user(arguments.name, arguments.file)
    else:
        set_user(arguments.name, Role(arguments.role), arguments.file)


def _console(arguments: argparse.Namespace) -> None:
    from cloud_node.console.command import open_console
    from cloud_node.console.settings import ConsoleSettings
    from fusion.config import from_overrides

    settings = from_overrides(ConsoleSettings, ["listen=127.0.0.1:8447", *arguments.overrides])
    open_console(arguments.ledger, settings, upgrade=arguments.upgrade)


def _doctor(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)

    from cloud_node.doctor.command import doctor

    return doctor(settings)


if __name__ == "__main__":
    sys.exit(main())
