"""Ports for processes that must be told where to listen before they do."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, EACH, WORKERS = 20_000, 750, 16
"""Below the range from which the system takes ports of its own for connections (32768 and up on Linux)."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_next = itertools.cycle(range(FIRST + _worker * EACH, FIRST + (_worker + 1) * EACH))


def free_port() -> int:
    """A port of 127.0.0.1 that is free, for UDP too, and that nothing else takes meanwhile.

    A port the system gives out would not do: between asking and listening it may become the near end of any other
    test's connection.
    """
    for port in itertools.islice(_next, EACH):
        try:
            with socket.create_server(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
                datagrams.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise RuntimeError(f"none of the {EACH} ports of this worker is free")


def free_address() -> str:
    """`127.0.0.1:` and a free port."""
    return f"127.0.0.1:{free_port()}"
