"""uvicorn in a thread of its own, with its own event loop, from a port taken early to a graceful end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from cloud_node.console.settings import ConsoleSettings
from fusion.errors import UnavailableError
from fusion.wire.channel import ServerTls, server_credentials

if TYPE_CHECKING:
    import uvicorn

    from cloud_node.console.backing import Backing

CONNECTIONS = 256
"""Requests at once; more are answered 503."""

HANDSHAKE_S = 10.0
"""How long a TLS handshake may take; asyncio would wait a minute."""

STOP_GRACE_S = 2


@contextmanager
def take_port(settings: ConsoleSettings) -> Iterator[socket.socket | None]:
    """The listening socket of `console.listen`, None when it is empty. Raises `UnavailableError` for a port in use."""
    if not settings.listen:
        yield None
        return
    check_files(settings)
    host, port = settings.host, int(settings.listen.rpartition(":")[2])
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UnavailableError(f"cannot serve the console on {settings.listen}: {error}") from None
    with listener:
        yield listener


def check_files(settings: ConsoleSettings) -> None:
    """Raise `ConfigError` naming the file of users or certificate that cannot be used."""
    if settings.users is not None:
        from cloud_node.console.users import read_users

        read_users(settings.users)
    if settings.tls is not None:
        server_credentials(ServerTls(certificate=settings.tls.certificate, key=settings.tls.key))


@asynccontextmanager
async def console(listener: socket.socket, settings: ConsoleSettings, backing: Backing) -> AsyncIterator[None]:
    """Serve the page on `listener` until the block ends; requests at work are let finish for a moment."""
    import uvicorn

    from cloud_node.console.app import make_app
    from cloud_node.console.connection import BoundedProtocol, ProxiedProtocol

    server: uvicorn.Server | None = None

    def closing() -> bool:
        return server is None or server.should_exit

    config = uvicorn.Config(
        make_app(settings, backing, closing),
        http=ProxiedProtocol if settings.behind_proxy else BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_GRACE_S,
        h11_max_incomplete_event_size=32 * 1024,
        **_tls(settings),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_run, args=(server, listener), name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, STOP_GRACE_S + 3.0)


def _tls(settings: ConsoleSettings) -> dict[str, Any]:
    if settings.tls is None:
        return {}
    return {"ssl_certfile": str(settings.tls.certificate), "ssl_keyfile": str(settings.tls.key)}


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers wait `HANDSHAKE_S` for a handshake: uvicorn has no setting for it."""

    async def create_server(self, *args: Any, **settings: Any) -> asyncio.Server:
        if settings.get("ssl") is not None:
            settings["ssl_handshake_timeout"] = HANDSHAKE_S
        return await super().create_server(*args, **settings)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(server.serve(sockets=[listener]))
