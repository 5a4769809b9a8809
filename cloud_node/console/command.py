"""`cloud-node user`: makes and removes users; `cloud-node console`: the page on a ledger without the service."""

from __future__ import annotations

import getpass
import signal
import sys
from pathlib import Path

from cloud_node.console.settings import ConsoleSettings
from cloud_node.console.users import Role, new_user, read_users, write_users
from fusion.errors import InputError


def set_user(name: str, role: Role, file: Path) -> None:
    """Add a user, or give one another role and password, which is asked for on the terminal or read from stdin."""
    users = read_users(file) if file.exists() else {}
    user = new_user(name, role, _password(name))
    write_users(file, {**users, name: user})
    print(f"{file}: {name} may log in as {role}")


def remove_user(name: str, file: Path) -> None:
    """Remove a user; raises `InputError` when there is none of the name."""
    users = read_users(file)
    if name not in users:
        raise InputError(f"{file}: nobody is called {name!r}; users: {', '.join(users) or 'none'}")
    write_users(file, {other: user for other, user in users.items() if other != name})
    print(f"{file}: {name} was removed")


def open_console(ledger: str, settings: ConsoleSettings, *, upgrade: bool = False) -> None:
    """Serve the page on `ledger` until SIGINT or SIGTERM; prints its address. `upgrade` as of `open_reader`."""
    import asyncio

    from cloud_node.console.alone import backing_of
    from cloud_node.console.serving import console, take_port

    async def run() -> None:
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        with take_port(settings) as listener, backing_of(ledger, upgrade=upgrade) as backing:
            assert listener is not None
            async with console(listener, settings, backing):
                print(f"console on {settings.address(listener.getsockname()[1])}", flush=True)
                await told.wait()

    asyncio.run(run())


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"password of {name}: ")
    if getpass.getpass("again: ") != first:
        raise InputError("the two passwords differ; nothing was written")
    return first
